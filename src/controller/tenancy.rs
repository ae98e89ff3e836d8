//! Whose Canaries this installation handles, and what they may refer to.

use std::collections::BTreeSet;

/// What one watch covers: one namespace, or all of them.
pub type Scope = Option<String>;

/// The part of the cluster that this installation is for. The default is all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenancy {
    /// The only namespaces that are watched; none means all.
    pub namespaces: BTreeSet<String>,
    /// The label selector of the Canaries that are handled; none means all.
    pub canary_selector: Option<String>,
    /// Whether a Canary may refer to nothing outside its own namespace.
    pub no_cross_namespace_refs: bool,
}

/// Why an object of one namespace may not refer to one of another. Whoever refuses says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The administrator does not want it.
    #[error("this installation allows no references to other namespaces")]
    Cross,
    /// It could never be found.
    #[error("this installation does not watch that namespace")]
    Unwatched,
}

impl Tenancy {
    /// One for each set of watches.
    #[must_use]
    pub fn scopes(&self) -> Vec<Scope> {
        if self.namespaces.is_empty() { vec![None] } else { self.namespaces.iter().cloned().map(Some).collect() }
    }

    /// Whether an object in the namespace `from` may refer to one in the namespace `to`: the one place that knows. It
    /// is asked when a spec is read, for a sentence in time, and again at every use, so that no edit gets past it.
    ///
    /// The Gateways of a route are not meant: which routes may attach to them is their own `allowedRoutes`' to say.
    ///
    /// # Errors
    /// Says why not.
    pub fn may_refer(&self, from: &str, to: &str) -> Result<(), Forbidden> {
        if from == to {
            Ok(())
        } else if self.no_cross_namespace_refs {
            Err(Forbidden::Cross)
        } else if self.namespaces.is_empty() || self.namespaces.contains(to) {
            Ok(())
        } else {
            Err(Forbidden::Unwatched)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watching(namespaces: &[&str]) -> Tenancy {
        Tenancy { namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(), ..Tenancy::default() }
    }

    #[test]
    fn without_namespaces_one_scope_covers_all() {
        assert_eq!(Tenancy::default().scopes(), [None]);
        assert_eq!(watching(&["shop", "blog"]).scopes(), [Some("blog".to_owned()), Some("shop".to_owned())]);
    }

    #[test]
    fn references_end_where_the_installation_says() {
        let all = Tenancy::default();
        assert_eq!(all.may_refer("shop", "monitoring"), Ok(()));
        let some = watching(&["shop", "blog"]);
        assert_eq!(some.may_refer("shop", "blog"), Ok(()));
        assert_eq!(some.may_refer("shop", "monitoring"), Err(Forbidden::Unwatched));
        let closed = Tenancy { no_cross_namespace_refs: true, ..some };
        assert_eq!(closed.may_refer("shop", "blog"), Err(Forbidden::Cross));
        assert_eq!(closed.may_refer("shop", "shop"), Ok(()));
    }
}

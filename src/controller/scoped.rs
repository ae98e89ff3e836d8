//! One of something for each set of watches.

use super::tenancy::Scope;
use std::collections::BTreeMap;

/// One `T` for every scope. Scopes do not overlap: there is either one for all namespaces, or one for each.
#[derive(Clone, Debug)]
pub struct Scoped<T>(BTreeMap<Scope, T>);

impl<T> Scoped<T> {
    /// Adds that of a scope.
    pub fn insert(&mut self, scope: Scope, one: T) {
        self.0.insert(scope, one);
    }

    /// That of exactly this scope.
    #[must_use]
    pub fn of(&self, scope: &Scope) -> Option<&T> {
        self.0.get(scope)
    }

    /// That of the scope that a namespace is in; none if it is not watched.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Option<&T> {
        self.0.get(&None).or_else(|| self.0.get(&Some(namespace.to_owned())))
    }

    /// Those of all scopes.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.values()
    }

    /// All scopes.
    pub fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.0.keys()
    }
}

impl<T> Default for Scoped<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// One for all namespaces.
impl<T> From<T> for Scoped<T> {
    fn from(one: T) -> Self {
        Self(BTreeMap::from([(None, one)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_finds_its_scope() {
        assert_eq!(Scoped::from(1).within("shop"), Some(&1));
        let mut some = Scoped::default();
        some.insert(Some("shop".to_owned()), 1);
        some.insert(Some("blog".to_owned()), 2);
        assert_eq!([some.within("shop"), some.within("blog"), some.within("other")], [Some(&1), Some(&2), None]);
    }
}

//! Schemas that no type has by itself.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Without the alternatives that `IntOrString` brings along: API servers before 1.22 cannot explain them.
pub(super) fn int_or_string(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true})
}

/// An object of which nothing is known but that it is refused: its fields are kept, so that the rule sees it.
pub(super) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

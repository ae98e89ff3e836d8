//! Serin: progressive delivery for Kubernetes. `ARCHITECTURE.md` is the map.

pub mod api;
pub mod domain;
pub mod mesh;
pub mod object;

//! What `make demo` runs and the tests share: a pretend chat workspace. Nothing here is used in production.

pub mod slack;

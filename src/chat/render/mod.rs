//! Rendering that the chat platforms share: size budgets, the parts of a message, table layout and text.

pub mod budget;
pub mod part;
pub mod table;
pub mod text;

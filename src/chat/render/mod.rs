//! Rendering that the chat platforms share: size budgets, table layout and text.

pub mod budget;
pub mod table_layout;
pub mod text;

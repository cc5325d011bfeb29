//! Microsoft Teams: the only module that knows Adaptive Cards. Out: [`render`] turns a [`Reply`](crate::message::Reply) into a
//! card within Teams' [`limits`]. Nothing here decides who may do what.

pub mod limits;
pub mod render;

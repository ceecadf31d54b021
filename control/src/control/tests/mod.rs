//! Control's decisions one by one, and all of it by random operations.

mod decisions;
mod simulation;

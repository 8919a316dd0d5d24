//! The types users write.

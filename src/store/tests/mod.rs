//! Tests of the store at its border, over both engines.

mod difference;
mod expire;
mod faults;
mod home;
mod random;
mod scratch;
mod speed;
mod suite;
mod upsert;

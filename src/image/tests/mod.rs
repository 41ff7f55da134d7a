//! The image room against the tools that know better, and against bytes that
//! make no sense.

mod fixture;
mod hostile;
mod oracles;
mod patterns;

//! Conformance vectors: problems for optimizers, with their exact answers. Made by refoptim vectors export --lang rust.
//!
//! Numbers are bits of f64, whatever the dtype: `f64::from_bits` reads them, and a float32 is one of them. A complex
//! number is two. An answer conforms if each of its numbers is within `budget_b` ulps of the exact value, which is the
//! sum of `high` and, where there is one, `low`. The ulp is the dtype's, at the largest absolute value that the exact
//! number has had so far, the parameter's initial one included; with `tensor`, that any of the tensor's has had.
#![allow(dead_code)]

pub struct Param {
    pub name: &'static str,
    pub shape: &'static [usize],
    pub init: &'static [u64],
}

/// An option: a word, or numbers. True is 1, false is 0, and None is no number.
pub struct Setting {
    pub name: &'static str,
    pub text: Option<&'static str>,
    pub numbers: &'static [u64],
}

/// Parameters, counted from 0, and their options; none at all where torch's defaults hold.
pub struct Group {
    pub params: &'static [usize],
    pub options: &'static [Setting],
}

/// No values: there is no gradient. Rows: it is sparse.
pub struct Grad {
    pub rows: &'static [usize],
    pub values: &'static [u64],
}

/// Each group's learning rate, none where torch's default holds, and each parameter's gradient.
pub struct Step {
    pub lrs: &'static [u64],
    pub grads: &'static [Grad],
}

/// What a quantity is after a step, counted from 1. Classes, where there are some, are one letter for each number, of
/// n (not a number), p (infinity), m (minus infinity), z (zero), f (finite) and ? (anything).
pub struct Expected {
    pub step: usize,
    pub param: usize,
    pub quantity: &'static str,
    pub budget_a: f64,
    pub budget_b: f64,
    pub classes: Option<&'static str>,
    pub high: &'static [u64],
    pub low: &'static [u64],
}

/// Where `invalid`, the right answer is to refuse the options.
pub struct Trajectory {
    pub id: &'static str,
    pub algorithm: &'static str,
    pub dtype: &'static str,
    pub invalid: bool,
    pub tensor: bool,
    pub params: &'static [Param],
    pub groups: &'static [Group],
    pub steps: &'static [Step],
    pub expected: &'static [Expected],
}

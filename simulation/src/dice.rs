//! Chance: all of it, from one seed.

/// The only source of chance in a run.
pub(crate) struct Dice(fastrand::Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        // Seeds that are neighbours make runs that are strangers.
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5E21_1A5E);
        rng.u64(..);
        Self(rng)
    }

    /// True so many times in a thousand.
    pub(crate) fn chance(&mut self, thousandths: u64) -> bool {
        thousandths > 0 && self.0.u64(0..1000) < thousandths
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.u64(low..=high.max(low))
    }

    /// One of several.
    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.0.usize(0..all.len())]
    }

    /// One of several, each as often as its number says.
    pub(crate) fn weighted<T: Copy>(&mut self, all: &[(u64, T)]) -> T {
        let sum: u64 = all.iter().map(|(weight, _)| weight).sum();
        let mut left = self.0.u64(0..sum);
        for (weight, one) in all {
            if left < *weight {
                return *one;
            }
            left -= weight;
        }
        all[0].1
    }
}

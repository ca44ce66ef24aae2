//! RSA keys whose private half can be computed from the public one (CVE-2017-15361, "ROCA").
//!
//! A library of smart cards made its primes as `k * M + 65537^a mod M`, with `M` the product of the first primes. Few
//! such primes exist of each size, and Coppersmith's method finds the one.

/// `M` has at least the primes up to here for moduli of 1984 bits and more, and shorter ones are refused anyway.
const LARGEST_PRIME: u32 = 701;

/// Whether `modulus` (big-endian) has the mark of that library: a power of 65537 modulo every prime of `M`.
///
/// One of 2^167 other moduli has it, too.
pub(super) fn is_marked(modulus: &[u8]) -> bool {
    (3..=LARGEST_PRIME).filter(|&number| is_prime(number)).all(|prime| {
        let rest = modulus.iter().fold(0, |rest, &byte| (rest << 8 | u32::from(byte)) % prime);
        powers(65_537 % prime, prime).any(|power| power == rest)
    })
}

/// Of a number above 2.
fn is_prime(number: u32) -> bool {
    (2..number).take_while(|factor| factor * factor <= number).all(|factor| !number.is_multiple_of(factor))
}

/// Each power of `base` once, modulo a prime that does not divide it.
fn powers(base: u32, prime: u32) -> impl Iterator<Item = u32> {
    let mut next = Some(1);
    std::iter::from_fn(move || {
        let power = next?;
        next = Some(power * base % prime).filter(|&power| power != 1);
        Some(power)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primes_are_those_of_the_library() {
        let primes: Vec<u32> = (3..=LARGEST_PRIME).filter(|&number| is_prime(number)).collect();
        // 126 with 2, modulo which every odd number is a power of 65537.
        assert_eq!((primes.len(), &primes[..5], primes[124]), (125, &[3, 5, 7, 11, 13][..], 701));
    }

    #[test]
    fn powers_of_65537_are_marked_and_their_neighbours_are_not() {
        assert!(is_marked(&[1]));
        assert!(is_marked(&65_537_u32.to_be_bytes()));
        assert!(is_marked(&(65_537_u64 * 65_537).to_be_bytes()));
        assert!(!is_marked(&65_539_u32.to_be_bytes()));
        assert!(!is_marked(&(65_537_u64 * 65_537 + 2).to_be_bytes()));
        assert!(!is_marked(&[]), "zero is no power");
    }
}

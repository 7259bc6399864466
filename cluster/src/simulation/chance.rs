//! Where chance comes from: of a thread that simulates, from its seed alone. Every source of it, the standard library's
//! hash keys and all random number generators, asks the system by this function, which takes the place of the C library's.

use std::cell::Cell;

thread_local! {
    /// The state of the thread's generator while it simulates.
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From here on this thread's chance follows from the seed. To be the first thing that the thread does.
pub(super) fn follow(seed: u64) {
    STATE.set(Some(seed));
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn fill(buffer: &mut [u8], mut state: u64) -> u64 {
    for part in buffer.chunks_mut(8) {
        let bytes = next(&mut state).to_le_bytes();
        part.copy_from_slice(&bytes[..part.len()]);
    }
    state
}

/// # Safety
/// `buffer` must be valid for writing `length` bytes, as for the C library's function of this name.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: u32) -> isize {
    // SAFETY: the caller's part.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    if let Some(state) = STATE.get() {
        STATE.set(Some(fill(buffer, state)));
        return length as isize;
    }
    match rustix::rand::getrandom(buffer, rustix::rand::GetRandomFlags::from_bits_retain(flags)) {
        Ok(filled) => filled as isize,
        Err(_) => -1,
    }
}

/// The next number of this thread's chance, for what is not drawn by any library.
pub(super) fn draw() -> u64 {
    let mut bytes = [0; 8];
    if let Some(state) = STATE.get() {
        STATE.set(Some(fill(&mut bytes, state)));
    }
    u64::from_le_bytes(bytes)
}

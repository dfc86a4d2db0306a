//! A small hash for comparing runs and records. It has to be the same on every machine; nobody attacks it.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) u64);

impl Digest {
    pub(crate) fn new() -> Digest {
        Digest(0x9E37_79B9_7F4A_7C15)
    }

    pub(crate) fn add(&mut self, value: u64) {
        let product = u128::from(self.0 ^ value) * 0xD6E8_FEB8_6659_FD93;
        self.0 = (product >> 64) as u64 ^ (product as u64).rotate_left(29) ^ 0xE703_7ED1_A0B4_28DB;
    }

    pub(crate) fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }
}

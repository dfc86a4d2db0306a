//! Amounts.

use plimsoll_domain::limits::UNITS_MAX;

use crate::value_error::ValueError;

/// An amount in one dimension: a whole number from 0 to 2^31-1.
///
/// # Errors
/// The rule that the text breaks.
pub fn parse_amount(text: &str) -> Result<u32, ValueError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(amount) if digits && amount <= UNITS_MAX => Ok(amount),
        _ => Err(ValueError::new(format!(
            "expected a whole number from 0 to {UNITS_MAX}, found {text:?}"
        ))),
    }
}

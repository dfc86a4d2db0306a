//! The W3C trace context of requests. One that is sampled travels to the engine with its command, in a frame of its own,
//! since a frame carries one trace context; the others share frames.

use http::HeaderMap;
use plimsoll_client::{Client, Decided, Error, PoolRef, Reserve, Reserving, Units, protocol};

/// Bit 0 of the flags: the caller records this trace.
const SAMPLED: u8 = 1;

/// The trace context of a request, when it is sound: `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`.
pub(crate) fn parent(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex = |part: &str, size: usize| {
        part.len() == size && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    match parts[..] {
        // A later version may say more behind these.
        [version, trace, span, flags, ref rest @ ..] => {
            let is_sound = is_hex(version, 2) && version != "ff" && (version != "00" || rest.is_empty());
            let is_named = is_hex(trace, 32) && is_hex(span, 16) && !is_zero(trace) && !is_zero(span);
            (is_sound && is_named && is_hex(flags, 2)).then_some(text)
        }
        _ => None,
    }
}

/// The same, when the caller records it and it fits a frame.
pub(crate) fn sampled(headers: &HeaderMap) -> Option<&str> {
    let text = parent(headers)?;
    let flags = u8::from_str_radix(text.split('-').nth(3)?, 16).ok()?;
    (flags & SAMPLED != 0 && text.len() <= plimsoll_client::limits::TRACEPARENT_SIZE_BYTES_MAX).then_some(text)
}

/// The id of the trace, for the log.
pub(crate) fn id(traceparent: &str) -> &str {
    traceparent.split('-').nth(1).unwrap_or_default()
}

/// Reserves with a trace context. What can be sent again is, without the trace context: it has one effect by its key.
pub(crate) async fn reserve(client: &Client, reserve: &Reserve<'_>, traceparent: &str) -> Result<Reserving, Error> {
    match once(client, reserve, traceparent).await {
        Some(decided) if !is_retryable(&decided) => Ok(decided.into()),
        _ => client.reserve(reserve).await,
    }
}

fn is_retryable(decided: &Decided) -> bool {
    match decided {
        Decided::Applied(_) => false,
        // Also what was said of a pool's id that is no longer current.
        Decided::Refused(refusal) => refusal.retryable() || refusal.is(plimsoll_client::Status::PoolNotFound),
        Decided::Unknown(_) => true,
    }
}

async fn once(client: &Client, reserve: &Reserve<'_>, traceparent: &str) -> Option<Decided> {
    let (PoolRef::Name(name), Units::InOrder(units)) = (reserve.pool, reserve.units) else {
        return None;
    };
    let pool = client.resolve(&[name]).await.ok()?.into_iter().next().flatten()?;
    let mut batch = client.new_batch();
    let command = protocol::Reserve {
        pool,
        key: reserve.key,
        hold_seconds: reserve.hold.map_or(0, |hold| hold.as_secs() as u32),
        occurred_at: reserve.occurred_at,
    };
    batch.push_reserve(command, units, reserve.reference).ok()?;
    batch.set_traceparent(Some(traceparent)).ok()?;
    client.batch(batch).await.ok()?.decided().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, is_sound: bool, is_sampled: bool) {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", text.parse().unwrap());
        assert_eq!(parent(&headers).is_some(), is_sound, "{text}");
        assert_eq!(sampled(&headers).is_some(), is_sampled, "{text}");
    }

    #[test]
    fn trace_contexts() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        check(&format!("00-{trace}-{span}-01"), true, true);
        check(&format!("00-{trace}-{span}-00"), true, false);
        check(&format!("01-{trace}-{span}-01-more"), true, true);
        check(&format!("00-{trace}-{span}-01-more"), false, false);
        check(&format!("ff-{trace}-{span}-01"), false, false);
        check(&format!("00-{}-{span}-01", "0".repeat(32)), false, false);
        check(&format!("00-{}-{span}-01", trace.to_uppercase()), false, false);
        check("00", false, false);
        assert_eq!(id(&format!("00-{trace}-{span}-01")), trace);
    }
}

//! What lets a pool take every reserve, and what gives it back what it had. No clock, file or socket.

use plimsoll_client::PoolDefinition;
use plimsoll_client::protocol::CLOSES_AT_NEVER;

/// The part of a pool's definition that decides whether it takes a reserve, its ceiling aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Selling {
    pub(crate) shadow: bool,
    pub(crate) closed: bool,
    /// Microseconds since 1970, as `closes_at`.
    pub(crate) opens_at: i64,
    pub(crate) closes_at: i64,
}

impl Selling {
    /// Takes everything: past the ceiling, and at any time. Shadow mode alone would not do, since the engine looks at state and
    /// times first, by its own clock, and orders of the past are for pools of the past.
    pub(crate) const LIFTED: Selling = Selling {
        shadow: true,
        closed: false,
        opens_at: 0,
        closes_at: CLOSES_AT_NEVER,
    };

    pub(crate) fn of(definition: &PoolDefinition) -> Selling {
        Selling {
            shadow: definition.shadow,
            closed: definition.closed,
            opens_at: definition.opens_at,
            closes_at: definition.closes_at,
        }
    }

    /// The definition with this in it.
    pub(crate) fn put_into(self, definition: &PoolDefinition) -> PoolDefinition {
        PoolDefinition {
            shadow: self.shadow,
            closed: self.closed,
            opens_at: self.opens_at,
            closes_at: self.closes_at,
            ..definition.clone()
        }
    }

    /// What a pool that stands like this is to be given back, when it was `earlier` before it was lifted. What somebody else has
    /// changed since then stays as they wanted it.
    pub(crate) fn given_back(self, earlier: Selling) -> Selling {
        fn chosen<T: PartialEq>(now: T, lifted: &T, earlier: T) -> T {
            if now == *lifted { earlier } else { now }
        }
        let lifted = Selling::LIFTED;
        Selling {
            shadow: chosen(self.shadow, &lifted.shadow, earlier.shadow),
            closed: chosen(self.closed, &lifted.closed, earlier.closed),
            opens_at: chosen(self.opens_at, &lifted.opens_at, earlier.opens_at),
            closes_at: chosen(self.closes_at, &lifted.closes_at, earlier.closes_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER: Selling = Selling {
        shadow: false,
        closed: true,
        opens_at: 5,
        closes_at: 9,
    };

    fn check(now: Selling, expected: Selling) {
        assert_eq!(now.given_back(EARLIER), expected, "{now:?}");
    }

    #[test]
    fn what_was_lifted_is_given_back_and_nothing_else() {
        check(Selling::LIFTED, EARLIER);
        check(EARLIER, EARLIER);
        let edited = Selling {
            closes_at: 7,
            ..Selling::LIFTED
        };
        check(
            edited,
            Selling {
                closes_at: 7,
                ..EARLIER
            },
        );
        assert_eq!(Selling::LIFTED.given_back(Selling::LIFTED), Selling::LIFTED);
    }

    #[test]
    fn the_rest_of_a_definition_stays() {
        let definition = PoolDefinition {
            zone: "z".into(),
            overbook: vec![2],
            version: 7,
            ..PoolDefinition::new("a", vec![5])
        };
        let lifted = Selling::LIFTED.put_into(&definition);
        assert_eq!(Selling::of(&lifted), Selling::LIFTED);
        assert_eq!(Selling::of(&definition).put_into(&lifted), definition);
    }
}

use plimsoll_client::ReservationId;
use proptest::prelude::*;

use super::super::file::{OrderIndex, PoolIndex};
use super::*;

fn line(number: u64, operation: Operation, order: u32, pool: u32) -> OrderLine {
    OrderLine {
        number,
        at: 0,
        operation,
        order: OrderIndex(order),
        pool: PoolIndex(pool),
        is_empty: false,
    }
}

/// Lines from texts such as `+1a` (order 1 reserves in pool a) and `-1a` (order 1 is released).
fn lines(text: &str) -> Vec<OrderLine> {
    let parse = |(number, word): (u64, &str)| {
        let bytes = word.as_bytes();
        let operation = if bytes[0] == b'+' {
            Operation::Reserve
        } else {
            Operation::Release
        };
        line(
            number,
            operation,
            u32::from(bytes[1] - b'0'),
            u32::from(bytes[2] - b'a'),
        )
    };
    (1..).zip(text.split(' ')).map(parse).collect()
}

/// An engine of pools that hold one unit each, decided in the order of arrival.
#[derive(Default)]
struct SimEngine {
    taken: HashMap<u32, ReservationId>,
    next: u128,
}

impl SimEngine {
    fn outcome(&mut self, line: &OrderLine, step: Step) -> Outcome {
        match step {
            Step::Reserve if self.taken.contains_key(&line.pool.0) => Outcome::Rejected(18),
            Step::Reserve => {
                self.next += 1;
                self.taken.insert(line.pool.0, ReservationId(self.next));
                Outcome::Accepted(ReservationId(self.next))
            }
            Step::Release(reservation) => {
                self.taken.retain(|_, taken| *taken != reservation);
                Outcome::Released
            }
        }
    }
}

/// Settles each line as soon as it is handed out.
fn one_by_one(lines: &[OrderLine]) -> (Figures, Vec<Skip>) {
    let (mut plan, mut engine) = (Plan::new(lines), SimEngine::default());
    while let Some((index, step)) = plan.next() {
        plan.settle(index, engine.outcome(&lines[index.index()], step)).unwrap();
    }
    assert!(plan.is_finished());
    (plan.figures(), plan.skipped().iter().map(|(_, why)| *why).collect())
}

fn check(text: &str, [accepted, rejected, released, release_of_rejected, live]: [u64; 5], skipped: &[Skip]) {
    let expected = Figures {
        accepted,
        rejected,
        released,
        release_of_rejected,
        live,
        skipped: skipped.len() as u64,
    };
    assert_eq!(one_by_one(&lines(text)), (expected, skipped.to_vec()), "{text}");
}

#[test]
fn what_lines_come_to() {
    check("+1a", [1, 0, 0, 0, 1], &[]);
    check("+1a +2a -1a +3a", [2, 1, 1, 0, 1], &[]);
    check("+1a +2a -2a -1a", [1, 1, 1, 1, 0], &[]);
    // A release names the order; the pool that it names does not count.
    check("+1a -1b +2a", [2, 0, 1, 0, 1], &[]);
    // Again after a refusal, and again after a release.
    check("+1a +2a +2b -2b", [2, 1, 1, 0, 1], &[]);
    check("+1a -1a +1a -1a", [2, 0, 2, 0, 0], &[]);
}

#[test]
fn lines_that_make_no_sense_are_skipped() {
    check("-1a", [0; 5], &[Skip::UnknownOrder]);
    check("+1a -1a -1a", [1, 0, 1, 0, 0], &[Skip::UnknownOrder]);
    check("+1a +2a -2a -2a", [1, 1, 0, 1, 1], &[Skip::UnknownOrder]);
    check("+1a +1b -1b", [1, 0, 1, 0, 0], &[Skip::AlreadyReserved]);
    let mut nothing = lines("+1a -1a");
    nothing[0].is_empty = true;
    assert_eq!(one_by_one(&nothing).1, [Skip::AsksForNothing, Skip::UnknownOrder]);
}

#[test]
fn a_line_waits_for_those_of_its_pool_and_order_only() {
    let lines = lines("+1a +2a +3b -1a");
    let mut plan = Plan::new(&lines);
    let reservation = ReservationId(9);
    assert_eq!(plan.next(), Some((LineIndex(0), Step::Reserve)));
    assert_eq!(plan.next(), Some((LineIndex(2), Step::Reserve)));
    assert_eq!(plan.next(), None);
    plan.settle(LineIndex(0), Outcome::Accepted(reservation)).unwrap();
    assert_eq!(plan.next(), Some((LineIndex(1), Step::Reserve)));
    assert_eq!(plan.next(), None);
    plan.settle(LineIndex(1), Outcome::Rejected(18)).unwrap();
    assert_eq!(plan.next(), Some((LineIndex(3), Step::Release(reservation))));
}

#[test]
fn an_outcome_that_does_not_fit_is_refused() {
    let lines = lines("+1a -1a");
    let mut plan = Plan::new(&lines);
    assert_eq!(plan.next(), Some((LineIndex(0), Step::Reserve)));
    assert_eq!(plan.settle(LineIndex(0), Outcome::Released), Err(Misfit(LineIndex(0))));

    let known = HashMap::from([(LineIndex(1), Outcome::Released)]);
    assert_eq!(Plan::new(&lines).resume(known), Err(Misfit(LineIndex(1))));
}

fn any_lines() -> impl Strategy<Value = Vec<OrderLine>> {
    let operation = prop_oneof![3 => Just(Operation::Reserve), 2 => Just(Operation::Release)];
    let any_line = (operation, 0..12_u32, 0..4_u32, proptest::bool::weighted(0.05));
    proptest::collection::vec(any_line, 0..60).prop_map(|list| {
        let number = |(number, (operation, order, pool, is_empty))| OrderLine {
            is_empty,
            ..line(number, operation, order, pool)
        };
        (1..).zip(list).map(number).collect()
    })
}

proptest! {
    /// Whatever is in flight at once, and whenever the run is killed and begun again from what was kept, with outcomes lost that the
    /// engine had already given, the figures are those of one line after the other.
    #[test]
    fn figures_do_not_depend_on_timing_or_crashes(
        lines in any_lines(),
        choices in proptest::collection::vec((any::<proptest::sample::Index>(), 0..10_u8), 0..200),
    ) {
        let expected = one_by_one(&lines).0;
        let mut engine = SimEngine::default();
        // What the engine did for a line's key: an accepted reserve is remembered, a refused one is decided anew.
        let mut by_key: HashMap<LineIndex, Outcome> = HashMap::new();
        let mut kept: HashMap<LineIndex, Outcome> = HashMap::new();
        let mut choices = choices.into_iter();
        'run: loop {
            let mut plan = Plan::new(&lines);
            let mut in_flight = plan.resume(kept.clone()).unwrap();
            loop {
                while let Some(next) = plan.next() {
                    in_flight.push(next);
                }
                if in_flight.is_empty() {
                    prop_assert!(plan.is_finished());
                    prop_assert_eq!(plan.figures(), expected);
                    break 'run;
                }
                let (place, chance) = choices.next().map_or((0, 9), |(choice, chance)| (choice.index(in_flight.len()), chance));
                let (index, step) = in_flight.swap_remove(place);
                let outcome = match by_key.get(&index) {
                    Some(outcome) => *outcome,
                    None => engine.outcome(&lines[index.index()], step),
                };
                if !matches!(outcome, Outcome::Rejected(_)) {
                    by_key.insert(index, outcome);
                }
                // Killed between the engine's answer and the write; or between the write and the next step.
                if chance == 0 {
                    continue 'run;
                }
                kept.insert(index, outcome);
                if chance == 1 {
                    continue 'run;
                }
                plan.settle(index, outcome).unwrap();
            }
        }
    }
}

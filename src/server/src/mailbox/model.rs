//! The mailbox under a model checker, which tries every order of its threads and every value that a load may see.
//!
//! The queue and the cell of the waker come from crates that the checker does not see into, so they are modelled here, with no more than they promise:
//!
//! - The queue orders memory only by a slot's stamp. A push or a pop that does not happen after what the other side did may see it or not: the
//!   real one sees more than that, by its fences. A locked queue would always see it, and would hide a flag that orders too little.
//! - The cell of the waker is the algorithm of `atomic-waker`, with its orderings.
//!
//! A core is what `core.rs` makes of it: it takes what has come, hands it on, and sleeps when there was no more. What the runtime does with a wake-up
//! is taken to be right here: that it may lose one is what the heartbeat is for, and no part of this protocol. The heartbeat also makes a core look
//! at its queues, so a wake-up that the mailbox lost would only show as a delay, which no other test would notice.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::task::Wake;

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::{Notify, atomic as model};
use loom::thread;

use super::*;

/// The count of those who may have the waker in hand matters only to a core that leaves. Where none does, the checker does not look at it either:
/// each operation that it looks at multiplies the orders.
struct ModelParts<C, const IN_FLIGHT_MAX: usize>(PhantomData<C>);

impl<C: Count, const IN_FLIGHT_MAX: usize> Parts for ModelParts<C, IN_FLIGHT_MAX> {
    type Message = usize;
    type Queue = ModelQueue;
    type Flag = ModelFlag;
    type Count = C;
    type WakerCell = ModelWakerCell;
    const IN_FLIGHT_MAX: usize = IN_FLIGHT_MAX;
    const PER_PASS_MAX: usize = 1;
}

/// Of cores that go on.
type Staying<const IN_FLIGHT_MAX: usize> = Mailbox<ModelParts<AtomicUsize, IN_FLIGHT_MAX>>;
/// Of cores that end.
type Leaving = Mailbox<ModelParts<ModelCount, 1>>;

/// A queue with one thread at each end.
struct ModelQueue {
    slots: Vec<ModelSlot>,
    /// Where the next push goes; only its thread looks at it, and so for the pops.
    pushed: AtomicUsize,
    popped: AtomicUsize,
}

#[derive(Default)]
struct ModelSlot {
    /// Twice how often the slot was filled and emptied, and one more while it is full.
    stamp: model::AtomicUsize,
    value: Mutex<Option<usize>>,
}

impl Queue<usize> for ModelQueue {
    fn with_capacity(capacity: usize) -> ModelQueue {
        ModelQueue {
            slots: std::iter::repeat_with(ModelSlot::default).take(capacity).collect(),
            pushed: AtomicUsize::new(0),
            popped: AtomicUsize::new(0),
        }
    }

    fn push(&self, value: usize) -> Result<(), usize> {
        let position = self.pushed.load(Ordering::Relaxed);
        let slot = &self.slots[position % self.slots.len()];
        let empty = position / self.slots.len() * 2;
        if slot.stamp.load(Ordering::Acquire) != empty {
            return Err(value);
        }
        *slot.value.lock().unwrap() = Some(value);
        slot.stamp.store(empty + 1, Ordering::Release);
        self.pushed.store(position + 1, Ordering::Relaxed);
        Ok(())
    }

    fn pop(&self) -> Option<usize> {
        let position = self.popped.load(Ordering::Relaxed);
        let slot = &self.slots[position % self.slots.len()];
        let full = position / self.slots.len() * 2 + 1;
        if slot.stamp.load(Ordering::Acquire) != full {
            return None;
        }
        let value = slot.value.lock().unwrap().take();
        slot.stamp.store(full + 1, Ordering::Release);
        self.popped.store(position + 1, Ordering::Relaxed);
        value
    }
}

#[derive(Default)]
struct ModelFlag(model::AtomicBool);

impl Flag for ModelFlag {
    fn swap(&self, value: bool, ordering: Ordering) -> bool {
        self.0.swap(value, ordering)
    }
}

#[derive(Default)]
struct ModelCount(model::AtomicUsize);

impl Count for ModelCount {
    fn add(&self, ordering: Ordering) {
        self.0.fetch_add(1, ordering);
    }

    fn subtract(&self, ordering: Ordering) {
        self.0.fetch_sub(1, ordering);
    }

    fn load(&self, ordering: Ordering) -> usize {
        self.0.load(ordering)
    }
}

#[derive(Default)]
struct ModelWakerCell {
    state: model::AtomicUsize,
    waker: Mutex<Option<Waker>>,
}

const WAITING: usize = 0;
const REGISTERING: usize = 1;
const WAKING: usize = 2;

impl WakerCell for ModelWakerCell {
    fn register(&self, waker: &Waker) {
        let found = self
            .state
            .compare_exchange(WAITING, REGISTERING, Ordering::Acquire, Ordering::Acquire);
        if found.is_err() {
            assert_eq!(found, Err(WAKING), "only its core registers");
            waker.wake_by_ref();
            // The core comes again until the other thread is done: a loop that would have no end here if that thread never ran.
            thread::yield_now();
            return;
        }
        *self.waker.lock().unwrap() = Some(waker.clone());
        let released = self
            .state
            .compare_exchange(REGISTERING, WAITING, Ordering::AcqRel, Ordering::Acquire);
        if released.is_err() {
            let waker = self.waker.lock().unwrap().take().expect("it was just put in");
            self.state.swap(WAITING, Ordering::AcqRel);
            waker.wake();
        }
    }

    fn take(&self) -> Option<Waker> {
        if self.state.fetch_or(WAKING, Ordering::AcqRel) != WAITING {
            return None;
        }
        let waker = self.waker.lock().unwrap().take();
        self.state.fetch_and(!WAKING, Ordering::Release);
        waker
    }
}

/// What a task is made of: touched by whoever wakes it, and gone when it ends. The checker finds a touch that is not ordered before the end.
#[derive(Default)]
struct Body(UnsafeCell<()>);

// SAFETY: there is nothing in it; the checker alone looks at who touches it, and in which order.
unsafe impl Sync for Body {}

/// The task of a core: polled once, and again after each time that it was woken.
#[derive(Default)]
struct Task {
    woken: Notify,
    body: Body,
    has_ended: AtomicBool,
}

impl Wake for Task {
    fn wake(self: Arc<Task>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Task>) {
        self.woken.notify();
        self.body.0.with(|_| ());
        assert!(!self.has_ended.load(Ordering::Relaxed), "woken after its end");
    }
}

impl Task {
    /// Sleeps until the poll is true.
    fn wait(self: &Arc<Task>, mut poll: impl FnMut(&Context<'_>) -> bool) {
        let waker = Waker::from(Arc::clone(self));
        while !poll(&Context::from_waker(&waker)) {
            self.woken.wait();
        }
    }

    fn end(self: &Arc<Task>) {
        self.has_ended.store(true, Ordering::Relaxed);
        assert_eq!(
            Arc::strong_count(self),
            1,
            "another thread has the waker in hand at the end"
        );
        self.body.0.with_mut(|_| ());
    }
}

/// How many times a thread may be interrupted where another can go on; each further time multiplies the orders, by about five.
const INTERRUPTIONS_MAX: usize = 3;

/// Runs a core beside other threads, in every possible order. A core that sleeps with nobody to wake it is a deadlock, which the checker finds.
fn check<P, const OTHERS: usize>(others: [fn(&[Mailbox<P>]); OTHERS], core: fn(&[Mailbox<P>]))
where
    P: Parts<Queue: Send + Sync, Flag: Send + Sync, Count: Send + Sync, WakerCell: Send + Sync> + 'static,
{
    check_with(&Builder::new(), others, core);
}

/// The same in every order with no more than [`INTERRUPTIONS_MAX`], where all orders take minutes.
fn check_most<P, const OTHERS: usize>(others: [fn(&[Mailbox<P>]); OTHERS], core: fn(&[Mailbox<P>]))
where
    P: Parts<Queue: Send + Sync, Flag: Send + Sync, Count: Send + Sync, WakerCell: Send + Sync> + 'static,
{
    let mut builder = Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(INTERRUPTIONS_MAX));
    check_with(&builder, others, core);
}

fn check_with<P, const OTHERS: usize>(builder: &Builder, others: [fn(&[Mailbox<P>]); OTHERS], core: fn(&[Mailbox<P>]))
where
    P: Parts<Queue: Send + Sync, Flag: Send + Sync, Count: Send + Sync, WakerCell: Send + Sync> + 'static,
{
    builder.check(move || {
        let core_count = OTHERS + 1;
        let mailboxes: Arc<[Mailbox<P>]> = (0..core_count).map(|_| Mailbox::new(core_count)).collect();
        let threads = others.map(|other| {
            let mailboxes = Arc::clone(&mailboxes);
            thread::spawn(move || other(&mailboxes))
        });
        core(&mailboxes);
        for thread in threads {
            thread.join().expect("the thread ends");
        }
    });
}

/// The first core: takes so many requests of each other one, and polls its mailbox whenever there were no more.
fn take_requests(mailboxes: &[Staying<2>], expected: &[usize], poll: fn(&Staying<2>, &Context<'_>) -> bool) {
    let task = Arc::new(Task::default());
    let mut taken = vec![0; expected.len()];
    loop {
        let mut more = false;
        for (index, taken) in taken.iter_mut().enumerate() {
            more |= mailboxes[0].take_requests(index + 1, |message| {
                assert_eq!(message, *taken, "out of order, lost, or twice");
                *taken += 1;
            });
        }
        if taken == expected {
            break;
        }
        if !more {
            task.wait(|context| poll(&mailboxes[0], context));
        }
    }
}

/// Leaves requests for the first core, with one notification for all.
fn send(mailboxes: &[Staying<2>], from: usize, messages: Range<usize>) {
    for message in messages {
        mailboxes[0].push_request(from, message, &mut 0).unwrap();
    }
    mailboxes[0].notify();
}

fn send_two_at_once(mailboxes: &[Staying<2>]) {
    send(mailboxes, 1, 0..2);
}

fn send_one_by_one(mailboxes: &[Staying<2>]) {
    send(mailboxes, 1, 0..1);
    send(mailboxes, 1, 1..2);
}

#[test]
fn a_core_hears_of_each_message() {
    check([send_two_at_once], |mailboxes| {
        take_requests(mailboxes, &[2], Mailbox::poll_notified);
    });
    check([send_one_by_one], |mailboxes| {
        take_requests(mailboxes, &[2], Mailbox::poll_notified);
    });
}

#[test]
fn a_core_hears_of_each_message_of_two_senders() {
    let senders: [fn(&[Staying<2>]); 2] = [
        |mailboxes| send(mailboxes, 1, 0..1),
        |mailboxes| send(mailboxes, 2, 0..1),
    ];
    check_most(senders, |mailboxes| {
        take_requests(mailboxes, &[1, 1], Mailbox::poll_notified);
    });
}

/// The canary: a core that looks whether it was notified only before it says whom to wake. It must be caught.
#[test]
#[should_panic = "deadlock"]
fn a_core_that_looks_once_is_caught() {
    check([send_two_at_once], |mailboxes| {
        take_requests(mailboxes, &[2], |mailbox, context| {
            let is_notified = mailbox.is_notified.swap(false, Ordering::AcqRel);
            mailbox.waker.register(context.waker());
            is_notified
        });
    });
}

/// The second core: answers so many requests of the first.
fn answer<P: Parts<Message = usize>>(mailboxes: &[Mailbox<P>], count: usize) -> Arc<Task> {
    let task = Arc::new(Task::default());
    let mut answered = 0;
    while answered < count {
        let more = mailboxes[1].take_requests(0, |message| {
            mailboxes[0].push_reply(1, message);
            mailboxes[0].notify();
            answered += 1;
        });
        if !more && answered < count {
            task.wait(|context| mailboxes[1].poll_notified(context));
        }
    }
    task
}

/// The first core: asks the second so much, as much as it may at once.
fn ask<P: Parts<Message = usize>>(mailboxes: &[Mailbox<P>], count: usize) -> Arc<Task> {
    let task = Arc::new(Task::default());
    let (mut asked, mut answered, mut unanswered) = (0, 0, 0);
    while answered < count {
        let more = mailboxes[0].take_replies(1, |message| {
            assert_eq!(message, answered, "out of order, lost, or twice");
            unanswered -= 1;
            answered += 1;
        });
        let mut is_sent = false;
        while asked < count && mailboxes[1].push_request(0, asked, &mut unanswered).is_ok() {
            asked += 1;
            is_sent = true;
        }
        assert_eq!(
            asked,
            count.min(answered + P::IN_FLIGHT_MAX),
            "as many as there is room for, and no more"
        );
        if is_sent {
            mailboxes[1].notify();
        }
        // A core that has sent something looks once more: what its connections bring makes it pass at any time.
        if !more && !is_sent && answered < count {
            task.wait(|context| mailboxes[0].poll_notified(context));
        }
    }
    task
}

/// With one message in flight each slot is used again at once, so a reply that comes too early finds no room.
#[test]
fn each_request_and_each_reply_finds_room() {
    check::<ModelParts<AtomicUsize, 1>, 1>([|mailboxes| drop(answer(mailboxes, 1))], |mailboxes| {
        drop(ask(mailboxes, 1));
    });
    check_most::<ModelParts<AtomicUsize, 1>, 1>([|mailboxes| drop(answer(mailboxes, 2))], |mailboxes| {
        drop(ask(mailboxes, 2));
    });
}

fn leave(task: &Arc<Task>, mailbox: &Leaving) {
    while !mailbox.leave() {
        thread::yield_now();
    }
    task.end();
}

/// The first core: ends as soon as it was woken.
fn end_when_notified(mailboxes: &[Leaving], leave: fn(&Arc<Task>, &Leaving)) {
    let task = Arc::new(Task::default());
    task.wait(|context| mailboxes[0].poll_notified(context));
    leave(&task, &mailboxes[0]);
}

fn notify_first(mailboxes: &[Leaving]) {
    mailboxes[0].notify();
}

#[test]
fn nobody_has_the_waker_of_a_core_that_has_left() {
    check([notify_first], |mailboxes| end_when_notified(mailboxes, leave));
    check_most([notify_first, notify_first], |mailboxes| {
        end_when_notified(mailboxes, leave);
    });
}

/// Both cores leave as soon as what they know of is answered, while the other may still be waking them.
#[test]
fn cores_that_leave_have_heard_all() {
    check_most(
        [|mailboxes: &[Leaving]| leave(&answer(mailboxes, 1), &mailboxes[1])],
        |mailboxes| leave(&ask(mailboxes, 1), &mailboxes[0]),
    );
}

/// The canary: a core that forgets its waker and ends, whoever has it in hand. It must be caught.
#[test]
#[should_panic = "Causality violation"]
fn a_core_that_leaves_at_once_is_caught() {
    check([notify_first], |mailboxes| {
        end_when_notified(mailboxes, |task, mailbox| {
            drop(mailbox.waker.take());
            task.end();
        });
    });
}

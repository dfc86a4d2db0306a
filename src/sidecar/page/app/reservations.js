// The reservations of a pool: search by reference, release, and the list of customers.
import { html, useEffect, useRef, useSignal, useState } from "./vendor/runtime.js";
import { findReservations, isAbort, messageOf, releaseReservation } from "./api.js";
import { copyText } from "./clipboard.js";
import { download } from "./csv.js";
import { customerName, customersCsv, customersOf } from "./customers.js";
import { count, unitsText } from "./figures.js";
import { begun, listen } from "./live.js";
import { notify } from "./notices.js";
import { clock, settings } from "./state.js";

/** @typedef {import("./api.js").Reservation} Reservation */

const PAGE = 50;
const STATES = ["confirmed", "held", "released", "expired"];
const TYPING_MS = 250;
const REFRESH_MS = 2_000;

/** @param {{ name: string }} properties */
export function Customers({ name }) {
  const [busy, setBusy] = useState(false);

  /** @param {(found: Reservation[]) => Promise<void> | void} use */
  async function withAll(use) {
    setBusy(true);
    try {
      const found = await customersOf(name);
      if (found.length === 0) notify("Nobody has reserved here.");
      else await use(found);
    } catch (error) {
      notify(messageOf(error), "wrong");
    }
    setBusy(false);
  }
  const copy = () =>
    withAll(async (found) => {
      await copyText(found.map(customerName).join("\n"));
      notify(`${count(found.length, "customer")} copied.`);
    });
  const save = () =>
    withAll((found) => {
      download(`customers-${name.replaceAll(":", "-")}.csv`, customersCsv(found, settings.value.dimensions));
      notify(`${count(found.length, "customer")} downloaded.`);
    });
  return html`
    <span class="customers">
      <button type="button" disabled=${busy} onClick=${copy}>Copy customers</button>
      <button type="button" disabled=${busy} onClick=${save}>Download customers</button>
    </span>
  `;
}

/** @param {{ reservation: Reservation, released: (now: Reservation) => void }} properties */
function ReservationLine({ reservation, released }) {
  const [asked, setAsked] = useState(false);
  const alive = reservation.state === "held" || reservation.state === "confirmed";

  async function release() {
    try {
      released({ ...reservation, ...(await releaseReservation(reservation.reservation)) });
      notify(`${customerName(reservation)} released.`);
    } catch (error) {
      notify(messageOf(error), "wrong");
    }
    setAsked(false);
  }
  return html`
    <li class="reservation">
      <div>
        <b title=${reservation.reservation}>${customerName(reservation)}</b>
        <span class="state ${reservation.state}">${reservation.state}${reservation.would_refuse ? ", past the limit" : ""}</span>
        <span class="dim">${unitsText(reservation.units)}</span>
        <time class="dim" datetime=${reservation.created_at}>${clock.value.stamp(Date.parse(reservation.created_at))}</time>
        ${reservation.state === "held" &&
        reservation.expires_at &&
        html`<span class="dim">until ${clock.value.stamp(Date.parse(reservation.expires_at)).slice(11)}</span>`}
      </div>
      ${alive && !asked && html`<button type="button" onClick=${() => setAsked(true)}>Release</button>`}
      ${alive &&
      asked &&
      html`
        <span class="asked">
          <button type="button" class="danger" onClick=${release}>Yes, release</button>
          <button type="button" onClick=${() => setAsked(false)}>Keep</button>
        </span>
      `}
    </li>
  `;
}

/** @param {{ name: string }} properties */
export function Reservations({ name }) {
  const [reference, setReference] = useState("");
  const [state, setState] = useState("confirmed");
  const [found, setFound] = useState(/** @type {Reservation[] | null} */ (null));
  const [next, setNext] = useState(/** @type {string | null} */ (null));
  const [isLong, setIsLong] = useState(false);
  const [failure, setFailure] = useState("");

  /** What happened since the list was read. */
  const changed = useSignal(0);
  const reading = useRef(/** @type {AbortController | null} */ (null));
  const list = useRef(/** @type {HTMLElement | null} */ (null));

  const wanted = { pool: name, state: state || undefined, reference: reference.trim() || undefined, limit: PAGE };
  /** @param {string} [cursor] of a page further down */
  async function read(cursor) {
    reading.current?.abort();
    const controller = (reading.current = new AbortController());
    const told = changed.peek();
    try {
      const page = await findReservations({ ...wanted, cursor }, controller.signal);
      setFound((found) => (cursor === undefined ? page.reservations : [...(found ?? []), ...page.reservations]));
      setNext(page.next);
      setIsLong(cursor !== undefined);
      setFailure("");
      if (cursor === undefined) changed.value -= told;
    } catch (error) {
      if (!isAbort(error)) setFailure(messageOf(error));
    }
    if (reading.current === controller) reading.current = null;
  }
  useEffect(() => {
    const timer = setTimeout(() => void read(), reference ? TYPING_MS : 0);
    return () => {
      clearTimeout(timer);
      reading.current?.abort();
    };
  }, [name, reference, state]);

  useEffect(
    () =>
      listen((event) => {
        if (event.pool === name && event.reservation) changed.value += 1;
      }),
    [name],
  );
  useEffect(() => {
    if (found !== null) changed.value += 1;
  }, [begun.value]);
  // The first page shows by itself what changed. Further ones would go: there the planner says when.
  useEffect(() => {
    if (isLong) return;
    const timer = setInterval(() => {
      if (changed.peek() > 0 && !reading.current) void read();
    }, REFRESH_MS);
    return () => clearInterval(timer);
  }, [name, reference, state, isLong]);

  // A line that has the focus can go: the focus stays in the list.
  const hadFocus = list.current?.contains(document.activeElement);
  useEffect(() => {
    if (hadFocus && document.activeElement === document.body) list.current?.focus();
  }, [found]);
  function readAgain() {
    list.current?.focus();
    void read();
  }

  /** @param {Reservation} now */
  const released = (now) =>
    setFound((found) => (found ?? []).map((known) => (known.reservation === now.reservation ? now : known)));

  return html`
    <div class="bar-of-choices">
      <input
        type="search"
        placeholder="Whole reference"
        aria-label="Reference"
        value=${reference}
        onInput=${(/** @type {any} */ event) => setReference(event.target.value)}
      />
      <select aria-label="State" value=${state} onChange=${(/** @type {any} */ event) => setState(event.target.value)}>
        ${STATES.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
        <option value="">all</option>
      </select>
    </div>
    <div class="bar-of-choices"><${Customers} name=${name} /></div>
    ${failure && html`<p class="wrong" role="alert">${failure}</p>`}
    ${found === null && !failure && html`<p class="dim">Reading…</p>`}
    ${found?.length === 0 &&
    html`<p class="dim">No ${state} reservations${reference ? ` with just the reference “${reference.trim()}”` : ""}.</p>`}
    ${isLong &&
    changed.value > 0 &&
    html`<button type="button" class="news" onClick=${readAgain}>Changed since, read again</button>`}
    <ul class="reservations" tabindex="-1" ref=${list}>
      ${(found ?? []).map(
        (reservation) =>
          html`<${ReservationLine} key=${reservation.reservation} reservation=${reservation} released=${released} />`,
      )}
    </ul>
    ${next !== null && html`<button type="button" onClick=${() => read(next)}>More</button>`}
  `;
}

// What a customer sees: a location leads to slots and bands, never to exact numbers.
import { html, useEffect, useState } from "./vendor/runtime.js";
import { availability, isAbort, messageOf } from "./api.js";
import { number } from "./figures.js";
import { clock, settings } from "./state.js";
import { dayName, timeOfDay } from "./times.js";

/** @typedef {import("./api.js").Offer} Offer */

const TYPING_MS = 250;
const REFRESH_MS = 5_000;
const OFFERS = 500;
const BANDS = /** @type {Record<string, string>} */ ({ none: "sold out", low: "few left", some: "some left", plenty: "plenty" });

/**
 * The offers by kind and then by day, in the order of time.
 * @param {Offer[]} offers
 */
function grouped(offers) {
  /** @type {Map<string, Map<string, Offer[]>>} */
  const kinds = new Map();
  for (const offer of offers) {
    const { day } = clock.value.local(Date.parse(offer.starts_at));
    const days = kinds.get(offer.kind) ?? new Map();
    kinds.set(offer.kind, days);
    days.set(day, [...(days.get(day) ?? []), offer]);
  }
  return kinds;
}

/** @param {{ offer: Offer }} properties */
function OfferView({ offer }) {
  const [start, end] = [offer.starts_at, offer.ends_at].map((time) => timeOfDay(clock.value.local(Date.parse(time)).minute));
  return html`
    <li class="offer ${offer.band}" title=${`${offer.pool}, zone ${offer.zone}`}>
      <span>${start}–${end}</span> <b>${BANDS[offer.band] ?? offer.band}</b>
      ${!offer.fits && offer.band !== "none" && html`<i>does not fit</i>`}
    </li>
  `;
}

export function Customer() {
  const [location, setLocation] = useState("");
  const [kind, setKind] = useState("");
  const [units, setUnits] = useState(/** @type {Record<string, string>} */ ({}));
  const [answer, setAnswer] = useState(/** @type {Awaited<ReturnType<typeof availability>> | null} */ (null));
  const [failure, setFailure] = useState("");

  const asked = Object.fromEntries(Object.entries(units).filter(([, text]) => Number(text) > 0).map(([name, text]) => [name, Number(text)]));
  const wanted = JSON.stringify({
    location: location.trim(),
    kind: kind.trim() || undefined,
    units: Object.keys(asked).length ? asked : undefined,
    limit: OFFERS,
  });
  useEffect(() => {
    if (location.trim() === "") return setAnswer(null);
    const controller = new AbortController();
    const read = () =>
      availability(JSON.parse(wanted), controller.signal).then(
        (found) => {
          setAnswer(found);
          setFailure("");
        },
        (error) => isAbort(error) || setFailure(messageOf(error)),
      );
    const first = setTimeout(read, TYPING_MS);
    const again = setInterval(read, REFRESH_MS);
    return () => {
      clearTimeout(first);
      clearInterval(again);
      controller.abort();
    };
  }, [wanted]);

  const kinds = answer ? [...grouped(answer.pools)] : [];
  return html`
    <div class="page customer">
      <h1>What a customer sees</h1>
      <div class="choices">
        <label>Location <input type="search" placeholder="postal code or geohash" value=${location} onInput=${(/** @type {any} */ event) => setLocation(event.target.value)} /></label>
        <label>Kind <input type="search" placeholder="any" value=${kind} onInput=${(/** @type {any} */ event) => setKind(event.target.value)} /></label>
        ${settings.value.dimensions.map(
          (name) => html`
            <label key=${name}>
              ${name} <input inputmode="numeric" class="short" placeholder="0" value=${units[name] ?? ""} onInput=${(/** @type {any} */ event) => setUnits({ ...units, [name]: event.target.value })} />
            </label>
          `,
        )}
      </div>
      ${failure && html`<p class="wrong" role="alert">${failure}</p>`}
      ${!answer && !failure && html`<p class="dim">Type a location: what its zone sells from now on is shown as shops show it, without numbers.</p>`}
      ${answer && answer.pools.length === 0 && html`<p>Nothing is sold at “${location.trim()}”.</p>`}
      ${kinds.map(
        ([name, days]) => html`
          <section key=${name}>
            <h2>${name}</h2>
            <div class="offer-days">
              ${[...days].map(
                ([day, offers]) => html`
                  <div key=${day}>
                    <h3>${dayName(day)}</h3>
                    <ul>
                      ${offers.map((offer) => html`<${OfferView} key=${offer.pool} offer=${offer} />`)}
                    </ul>
                  </div>
                `,
              )}
            </div>
          </section>
        `,
      )}
      ${answer &&
      answer.pools.length > 0 &&
      html`<p class="dim">
        As of ${clock.value.stamp(Date.parse(answer.as_of))}${answer.truncated ? `, the first ${number(answer.pools.length)} slots` : ""}; asked again every 5 s.
      </p>`}
    </div>
  `;
}

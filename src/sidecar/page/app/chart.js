// A small line chart over the last minutes.
import { html, useState } from "./vendor/runtime.js";

const WIDTH = 400;
const HEIGHT = 96;

/** @typedef {{ name: string, values: (number | null)[] }} Series */

/**
 * The next round number above, for the top of an axis.
 * @param {number} value
 */
export function roundUp(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return (/** @type {number[]} */ ([1, 2, 2.5, 5, 10]).find((step) => step * power >= value) ?? 10) * power;
}

/**
 * The line through values as a path; a null breaks it.
 * @param {(number | null)[]} values
 * @param {number} top
 */
export function pathOf(values, top) {
  const step = WIDTH / Math.max(1, values.length - 1);
  let path = "";
  let pen = false;
  values.forEach((value, index) => {
    if (value === null) {
      pen = false;
      return;
    }
    const y = HEIGHT - (Math.min(value, top) / top) * (HEIGHT - 4);
    path += `${pen ? "L" : "M"}${(index * step).toFixed(1)} ${y.toFixed(1)}`;
    pen = true;
  });
  return path;
}

/**
 * @param {{ title: string, series: Series[], times: string[], format: (value: number) => string }} properties
 */
export function Chart({ title, series, times, format }) {
  const [at, setAt] = useState(/** @type {number | null} */ (null));
  const all = series.flatMap(({ values }) => values.filter((value) => value !== null));
  const top = roundUp(Math.max(0, ...all));
  const index = at ?? times.length - 1;

  /** @param {PointerEvent} event */
  function point(event) {
    const box = /** @type {Element} */ (event.currentTarget).getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    setAt(Math.max(0, Math.min(times.length - 1, Math.round(share * (times.length - 1)))));
  }
  return html`
    <figure class="chart">
      <figcaption>
        <span>${title}</span>
        <span class="values">
          ${series.map(({ name, values }, place) => {
            const value = values[index];
            return html`<span key=${name} class="series-${place}">${series.length > 1 ? `${name} ` : ""}<b>${value == null ? "–" : format(value)}</b></span>`;
          })}
        </span>
      </figcaption>
      <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label=${title} onPointerMove=${point} onPointerLeave=${() => setAt(null)}>
        <path class="rule" d="M0 ${HEIGHT}H${WIDTH}M0 ${HEIGHT / 2 + 2}H${WIDTH}M0 4H${WIDTH}" />
        ${series.map(({ name, values }, place) => html`<path key=${name} class="line series-${place}" d=${pathOf(values, top)} />`)}
        ${at !== null && html`<path class="pointer" d="M${(at / Math.max(1, times.length - 1)) * WIDTH} 0V${HEIGHT}" />`}
      </svg>
      <div class="axis"><span>${times[at ?? 0] ?? ""}</span><span>top ${format(top)}</span><span>${times[times.length - 1] ?? ""}</span></div>
    </figure>
  `;
}

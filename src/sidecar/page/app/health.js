// How the engine does: rates, latency, sync time, queues, drawn over the last minutes.
import { html, useEffect, useState } from "./vendor/runtime.js";
import { getHealth, isAbort, messageOf } from "./api.js";
import { Chart } from "./chart.js";
import { brief, number } from "./figures.js";
import { clock } from "./state.js";
import { duration } from "./times.js";

const REFRESH_MS = 2_000;

/** @param {number} value */
const perSecond = (value) => `${brief(value)}/s`;

/**
 * @typedef {object} Panel
 * @property {string} title
 * @property {[string, string][]} series name for people, and of the samples' field
 * @property {(value: number) => string} format
 */

/** @type {Panel[]} */
const PANELS = [
  { title: "Commands", series: [["commands", "commands_per_second"]], format: perSecond },
  { title: "Refused as overloaded", series: [["refused", "overloaded_per_second"]], format: perSecond },
  {
    title: "HTTP latency",
    series: [
      ["p50", "http_p50_ms"],
      ["p99", "http_p99_ms"],
    ],
    format: duration,
  },
  { title: "HTTP requests", series: [["requests", "http_requests_per_second"]], format: perSecond },
  {
    title: "Sync time",
    series: [
      ["p50", "sync_p50_ms"],
      ["p99", "sync_p99_ms"],
    ],
    format: duration,
  },
  { title: "Syncs", series: [["syncs", "syncs_per_second"]], format: perSecond },
  { title: "Commands queued", series: [["queued", "commands_queued"]], format: number },
  { title: "Lag of what readers see", series: [["lag", "lag_ms"]], format: duration },
  {
    title: "Live reservations",
    series: [
      ["confirmed", "confirmed"],
      ["held", "held"],
    ],
    format: brief,
  },
  { title: "Connections", series: [["connections", "connections"]], format: number },
];

export function Health() {
  const [samples, setSamples] = useState(/** @type {import("./api.js").HealthSample[] | null} */ (null));
  const [failure, setFailure] = useState("");
  useEffect(() => {
    const controller = new AbortController();
    async function read() {
      try {
        setSamples((await getHealth(controller.signal)).samples);
        setFailure("");
      } catch (error) {
        if (!isAbort(error)) setFailure(messageOf(error));
      }
    }
    void read();
    const again = setInterval(read, REFRESH_MS);
    return () => {
      clearInterval(again);
      controller.abort();
    };
  }, []);

  const times = (samples ?? []).map((sample) => clock.value.stamp(Date.parse(sample.at)).slice(11));
  return html`
    <div class="page health">
      <h1>Health</h1>
      ${failure && html`<p class="wrong" role="alert">${failure}</p>`}
      ${!samples && !failure && html`<p class="dim">Reading…</p>`}
      ${samples?.length === 0 && html`<p class="dim">The server has not been sampled yet.</p>`}
      <div class="charts">
        ${samples &&
        samples.length > 0 &&
        PANELS.map(
          ({ title, series, format }) => html`
            <${Chart}
              key=${title}
              title=${title}
              times=${times}
              format=${format}
              series=${series.map(([name, field]) => ({
                name,
                values: samples.map((sample) => (typeof sample[field] === "number" ? sample[field] : null)),
              }))}
            />
          `,
        )}
      </div>
    </div>
  `;
}

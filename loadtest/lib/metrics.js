// What is measured beside k6's own metrics. series.py and page.py know these names.

import { Counter, Rate, Trend } from 'k6/metrics';

/** From the intended start to the verified answer of a client that waits. */
export const answer_latency = new Trend('answer_latency', true);

/** From the intended start to the job's id. */
export const submit_latency = new Trend('submit_latency', true);

/** From the intended start to the poll that finds the job ended. Later than the end by at most a poll's pause. */
export const settle_latency = new Trend('settle_latency', true);

/** From the intended start to k6 doing it: how late the load generator is. It is part of the latencies above. */
export const lateness = new Trend('lateness', true);

/** What arrivals came to, tagged `end`: succeeded, cancelled, looked, shed (refused honestly), broken (anything else). */
export const ends = new Counter('ends');

/** Share of arrivals that came to something that no promise covers. */
export const broken = new Rate('broken');

/** Arrivals refused with 429 or 503, a Retry-After and a proper body. */
export const shed = new Counter('shed');

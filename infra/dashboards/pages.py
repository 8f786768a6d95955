"""Writes the Grafana dashboards, one page per question.

    python3 infra/dashboards/pages.py          writes losing_work.json, slow.json, lies.json, full.json beside this file

A page is a title, the question that it answers, and panels: a title, a unit of Grafana's, and queries with their
legends. Everything else is the same for all dashboards. The JSON is committed, so that an operator needs nothing but
Grafana; `test_dashboards.py` fails if it differs from what this file writes, or names a metric that the programs lack.
"""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
COLUMNS = 24
PANEL_WIDTH = 12
PANEL_HEIGHT = 8
RATE = "$__rate_interval"


def rate(metric: str, by: str = "", where: str = "") -> str:
    """Returns the query for a counter's growth per second, summed over processes."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped}(rate({metric}{where}[{RATE}]))"


def quantile(share: float, histogram: str, by: str = "") -> str:
    """Returns the query for a histogram's quantile over all processes."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({histogram}_bucket[{RATE}])))"


def ratio(part: str, whole: str) -> str:
    """Returns the query for a share, which has no value while the whole is zero."""
    return f"{part} / ({whole} > 0)"


Panel = tuple[str, str, list[tuple[str, str]]]

PAGES: dict[str, tuple[str, str, list[Panel]]] = {
    "losing_work": (
        "Infera: are we losing work?",
        "Every accepted job must end, once, and be archived. Jobs accepted and ended run level over a minute; failures "
        "have a reason; hand-outs by the sweeper mean that a verifier or a queue lost something and it was found.",
        [
            ("Accepted and ended", "ops", [
                (rate("infera_gateway_jobs_accepted_total"), "accepted"),
                (rate("infera_verifier_jobs_settled_total", "end"), "{{end}}"),
            ]),
            ("Why jobs failed", "ops", [
                (rate("infera_verifier_jobs_settled_total", "reason", '{end="failed"}'), "{{reason}}"),
            ]),
            ("Handed out again, given back", "ops", [
                (rate("infera_verifier_handouts_total"), "handed out again"),
                (rate("infera_verifier_jobs_released_total"), "given back undispatched"),
                (rate("infera_gateway_notices_left_total"), "left to the sweeper by gateways"),
                (rate("infera_verifier_dead_letters_total"), "given up by the broker"),
                (rate("infera_verifier_queues_repaired_total"), "queues declared again"),
            ]),
            ("Broker: publishes that were not confirmed", "ops", [
                (rate("infera_broker_publishes_total", "kind, outcome", '{outcome!="confirmed"}'),
                 "{{kind}} {{outcome}}"),
            ]),
            ("Archive: behind by (95 %), failures", "s", [
                (quantile(0.95, "infera_verifier_archive_lag_seconds"), "settled to archived"),
                ("sum(increase(infera_verifier_archive_failures_total[5m]))", "failures in 5 minutes"),
                ("sum(increase(infera_verifier_archive_lost_segments_total[5m]))", "lost segments in 5 minutes"),
            ]),
            ("Who is ready, who holds a lease", "short", [
                ("sum by (job) (infera_ready)", "ready: {{job}}"),
                ("sum(infera_verifier_lease_held)", "verifiers with a lease"),
                ("sum(increase(infera_verifier_leases_lost_total[5m]))", "leases lost in 5 minutes"),
                ("sum(increase(infera_verifier_panics_total[5m]))", "panics in 5 minutes"),
            ]),
        ],
    ),
    "slow": (
        "Infera: are we slow?",
        "Where a job's time goes: accepting is one commit, waiting is room on nodes, answering is the engine, settling is "
        "one commit.",
        [
            ("A job, acceptance to settlement, by model", "s", [
                (quantile(0.5, "infera_verifier_job_seconds", "model"), "half, {{model}}"),
                (quantile(0.95, "infera_verifier_job_seconds", "model"), "95 %, {{model}}"),
            ]),
            ("HTTP: 95 % by route", "s", [
                (quantile(0.95, "infera_gateway_request_seconds", "route"), "{{route}}"),
            ]),
            ("Commits: 99 %", "s", [
                (quantile(0.99, "infera_gateway_ledger_commit_seconds"), "accept"),
                (quantile(0.99, "infera_verifier_settle_commit_seconds"), "settle"),
            ]),
            ("Publishes: 99 %", "s", [(quantile(0.99, "infera_broker_publish_seconds"), "to their outcome")]),
            ("Nodes of ours: waiting and decoding, 95 %", "s", [
                (quantile(0.95, "infera_worker_queue_wait_seconds"), "receipt to prefill"),
                (quantile(0.95, "infera_worker_decode_seconds"), "prefill to last token"),
            ]),
            ("Nodes of ours: tokens a second, batch", "short", [
                (rate("infera_worker_tokens_total"), "tokens a second"),
                (quantile(0.5, "infera_worker_batch_sequences", "step"), "half of the batches, {{step}}"),
            ]),
            ("Groups: settled to closed, 95 %", "s", [
                (quantile(0.95, "infera_verifier_group_close_lag_seconds"), "points posted after"),
            ]),
        ],
    ),
    "lies": (
        "Infera: who lies?",
        "What verification finds. Which node it was is in the ledger, not here: a node's id is no label.",
        [
            ("Verdicts", "ops", [(rate("infera_verifier_verdicts_total", "verdict"), "{{verdict}}")]),
            ("Invalid, of all verdicts", "percentunit", [
                (ratio(rate("infera_verifier_verdicts_total", "model", '{verdict="invalid"}'),
                       rate("infera_verifier_verdicts_total", "model")), "{{model}}"),
            ]),
            ("Disputes and jobs without consensus", "ops", [
                (rate("infera_verifier_disputes_total"), "disputes"),
                (rate("infera_verifier_jobs_settled_total", where='{reason="no_consensus"}'), "no consensus"),
            ]),
            ("How agreement was found", "ops", [
                (rate("infera_verifier_jobs_settled_total", "rung", '{end="succeeded"}'), "{{rung}}"),
            ]),
            ("Messages from nodes that were not theirs to send", "ops", [
                (rate("infera_verifier_replicas_total", "outcome", '{outcome!="answer"}'), "replica: {{outcome}}"),
                (rate("infera_verifier_heartbeats_refused_total"), "heartbeats refused"),
                (rate("infera_verifier_messages_refused_total", "outcome"), "message {{outcome}}"),
            ]),
            ("Thresholds in force, by verifiers", "short", [
                ("count by (version) (infera_verifier_thresholds_info)", "{{version}}"),
            ]),
        ],
    ),
    "full": (
        "Infera: is it full?",
        "Full is an answer: it shows as refusals before it shows as waiting. Three owners per model make a group.",
        [
            ("Requests by status", "ops", [(rate("infera_gateway_requests_total", "status"), "{{status}}")]),
            ("Refused, by code", "ops", [(rate("infera_gateway_refusals_total", "code"), "{{code}}")]),
            ("Waiting, in hand", "short", [
                ("max by (model, lane) (infera_verifier_waiting_jobs)", "waiting: {{model}}, {{lane}}"),
                ("sum(infera_verifier_jobs_in_flight)", "in hand"),
                ("sum(infera_gateway_waiters)", "clients that wait"),
            ]),
            ("Nodes, owners and free slots", "short", [
                ("max by (model) (infera_verifier_nodes)", "nodes: {{model}}"),
                ("max by (model) (infera_verifier_owners)", "owners: {{model}}"),
                ("max by (model) (infera_verifier_free_slots)", "free slots: {{model}}"),
            ]),
            ("Outbox, of what it holds", "percentunit", [
                ("infera_gateway_outbox_notices / infera_gateway_outbox_notices_max", "{{instance}}"),
            ]),
            ("Connections, of what there may be", "percentunit", [
                ("infera_gateway_connections / infera_gateway_connections_max", "{{instance}}"),
            ]),
            ("Connections closed for others, refused", "ops", [
                (rate("infera_gateway_connections_closed_total", "taken"), "idle, taken: {{taken}}"),
                (rate("infera_gateway_connections_refused_total", "reason"), "refused: {{reason}}"),
            ]),
            ("Broker blocked", "short", [("max by (job) (infera_broker_blocked)", "{{job}}")]),
            ("Nodes of ours: slots", "short", [
                ("sum(infera_worker_slots)", "slots"),
                ("sum(infera_worker_slots_free)", "free"),
            ]),
            ("Nodes of ours: assignments", "ops", [
                (rate("infera_worker_assignments_total", "outcome"), "{{outcome}}"),
                (rate("infera_worker_replicas_total", "outcome", '{outcome!="confirmed"}'), "replica {{outcome}}"),
                (rate("infera_worker_engine_failures_total"), "engine failures"),
            ]),
        ],
    ),
}


def panel(index: int, title: str, unit: str, queries: list[tuple[str, str]]) -> dict:
    """Makes a panel with a time series; panels are placed left to right and top to bottom."""
    source = {"type": "prometheus", "uid": "${source}"}
    column, row = index * PANEL_WIDTH % COLUMNS, index * PANEL_WIDTH // COLUMNS
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": {"x": column, "y": row * PANEL_HEIGHT, "w": PANEL_WIDTH, "h": PANEL_HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": source, "expr": expression, "legendFormat": legend}
            for number, (expression, legend) in enumerate(queries)
        ],
    }


def dashboard(name: str) -> dict:
    """Makes a page as Grafana imports it; a variable chooses its data source."""
    title, question, panels = PAGES[name]
    return {
        "uid": f"infera-{name.replace('_', '-')}",
        "title": title,
        "description": question,
        "tags": ["infera"],
        "schemaVersion": 39,
        "timezone": "utc",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]},
        "links": [{"title": "Infera", "type": "dashboards", "tags": ["infera"], "asDropdown": False}],
        "panels": [panel(index, *described) for index, described in enumerate(panels)],
    }


def rendered(name: str) -> str:
    """Returns the text of a page's file."""
    return json.dumps(dashboard(name), indent=1) + "\n"


def main() -> None:
    """Writes all pages."""
    for name in PAGES:
        (FOLDER / f"{name}.json").write_text(rendered(name), encoding="utf-8")


if __name__ == "__main__":
    main()

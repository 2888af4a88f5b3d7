"""Is it up, is it fast, is it denying more than usual and why, what is about to break."""

from tests.dashboards.grafana import (
    BAD_ABOVE_ZERO,
    DECISIONS,
    DOUBTFUL_ABOVE_ZERO,
    GREEN,
    INSTANCE,
    INSTANCE_VARIABLE,
    ISSUER_VARIABLE,
    JOB,
    JOB_VARIABLE,
    NAMESPACE_VARIABLE,
    RED,
    SURFACE,
    SURFACE_VARIABLE,
    YELLOW,
    Json,
    Query,
    bars,
    dashboard,
    heatmap,
    lines,
    quantiles,
    rate,
    states,
    table,
    value,
)

DAY = 86_400

_UP = (
    value(
        "Ready",
        "Instances whose /readyz says 200. The others have no keys, or have not read the list of revocations.",
        Query(f"sum(verifier_ready{{{INSTANCE}}})"),
        below=(1, RED),
    ),
    value(
        "Not ready",
        "Instances that can be scraped and whose /readyz says 503.",
        Query(f"count(verifier_build_info{{{INSTANCE}}}) - sum(verifier_ready{{{INSTANCE}}})"),
        steps=DOUBTFUL_ABOVE_ZERO,
    ),
    value(
        "Not scraped",
        "Targets of this job that Prometheus cannot reach.",
        Query(f"count(up{{{JOB}}} == 0) or 0 * count(up{{{JOB}}})"),
        steps=BAD_ABOVE_ZERO,
    ),
    value(
        "Workers",
        "Processes that take connections, of all instances.",
        Query(f"sum(verifier_workers{{{INSTANCE}}})"),
        below=(1, RED),
    ),
    value(
        "Draining",
        "Instances that were told to stop and finish what they have.",
        Query(f"sum(verifier_draining{{{INSTANCE}}})"),
        steps=DOUBTFUL_ABOVE_ZERO,
    ),
    value(
        "Alerts firing",
        "Alerts of deploy/prometheus/alerts.yml that fire now. The last row lists them.",
        Query('count(ALERTS{alertname=~"Verifier.*", alertstate="firing"}) or 0 * count(up)'),
        steps=BAD_ABOVE_ZERO,
    ),
    value(
        "Answered in the last hour",
        "The share of questions that were allowed or denied. The rest are undecided (503), connections refused as too "
        "many were open, and defects.",
        Query(f"1 - max(job:verifier_unanswered:ratio_rate1h{{{JOB}}})"),
        "percentunit",
        below=(0.999, RED),
    ),
    value(
        "Availability budget burns",
        "How many times faster than the objective allows, in the last hour. At 1 the budget of 30 days lasts 30 days, "
        "from 14.4 on somebody is paged.",
        Query(f"max(job:verifier_unanswered:ratio_rate1h{{{JOB}}}) / (1 - scalar(verifier:availability:objective))"),
        "none",
        steps=((1, YELLOW), (14.4, RED)),
    ),
    value(
        "Latency budget burns",
        "The same for decisions of more than 100 ms.",
        Query(f"max(job:verifier_slow:ratio_rate1h{{{JOB}}}) / (1 - scalar(verifier:latency:objective))"),
        "none",
        steps=((1, YELLOW), (14.4, RED)),
    ),
    value(
        "Configurations",
        "Different configurations that instances have. With more than one, but for a rollout, the same token may get "
        "different answers.",
        Query(f'count(count_values("hash", verifier_config_hash{{{INSTANCE}}}))'),
        steps=((2, YELLOW),),
    ),
    value(
        "Reload refused",
        "Instances that refused their newest configuration and run with the one before.",
        Query(
            f"count(verifier_config_last_reload_successful{{{INSTANCE}}}) "
            f"- sum(verifier_config_last_reload_successful{{{INSTANCE}}})"
        ),
        steps=DOUBTFUL_ABOVE_ZERO,
    ),
    value(
        "Versions",
        "Different versions of the verifier.",
        Query(f"count(count by (version) (verifier_build_info{{{INSTANCE}}}))"),
        steps=((2, YELLOW),),
    ),
)

_FAST = (
    lines(
        "Decisions",
        "Decisions each second, by outcome. undecided is 503: nobody could say.",
        [Query(rate("verifier_decisions_total", DECISIONS, "outcome"), "{{outcome}}")],
        "reqps",
        stacked=True,
    ),
    lines(
        "Time of decisions",
        "From a request read to its verdict, waiting for keys and introspection included. Dots are traces. The line is "
        "half of what gateways wait.",
        [
            *quantiles("verifier_decision_seconds", SURFACE),
            Query(
                f'max(job_surface:verifier_decision_seconds:p99_rate5m{{{JOB}, surface=~"$surface"}})',
                "p99 of the slowest surface",
            ),
        ],
        "s",
        steps=((0.5, RED),),
    ),
    heatmap(
        "Where decisions take their time", "Decisions by how long they took.", "verifier_decision_seconds", SURFACE
    ),
    lines(
        "Slow decisions",
        "The share of decisions that took more than 100 ms, against what the objective allows.",
        [
            Query(f"job:verifier_slow:ratio_rate5m{{{JOB}}}", "{{job}}"),
            Query("1 - verifier:latency:objective", "allowed"),
        ],
        "percentunit",
    ),
    lines(
        "Under way",
        "Requests that were read and are not answered, and decisions that wait for keys, Redis or an issuer.",
        [
            Query(f"sum(verifier_requests_in_flight{{{INSTANCE}}})", "requests"),
            Query(f"sum(verifier_decisions_waiting{{{INSTANCE}}})", "waiting decisions"),
        ],
    ),
    lines(
        "Delay of the event loop",
        "How much later than meant things begin in a process. Above 100 ms it has too little of a processor.",
        [Query(f"job_instance:verifier_event_loop_delay_seconds:p99_rate5m{{{INSTANCE}}}", "p99 {{instance}}")],
        "s",
        steps=((0.1, RED),),
    ),
)

_DENYING = (
    lines(
        "Denied, now and yesterday",
        "The share of decisions that were denials, over an hour, and a day before.",
        [
            Query(f"job:verifier_denials:ratio_rate1h{{{JOB}}}", "{{job}}"),
            Query(f"job:verifier_denials:ratio_rate1h{{{JOB}}} offset 1d", "{{job}} yesterday"),
        ],
        "percentunit",
    ),
    lines(
        "Denials by reason",
        "docs/reasons.md says what each reason means and what to do about it.",
        [Query(rate("verifier_decisions_total", f'{DECISIONS}, outcome="deny"', "reason"), "{{reason}}")],
        "reqps",
        stacked=True,
    ),
    lines(
        "Denials by issuer",
        "none: the token named no issuer that is configured, or there was no token.",
        [
            Query(rate("verifier_decisions_total", f'{DECISIONS}, outcome="deny", issuer!=""', "issuer"), "{{issuer}}"),
            Query(rate("verifier_decisions_total", f'{DECISIONS}, outcome="deny", issuer=""'), "none"),
        ],
        "reqps",
        stacked=True,
    ),
    lines(
        "Undecided by reason",
        "Questions that nobody could answer: keys or introspection are away, or too much waits.",
        [
            Query(
                rate("verifier_decisions_total", f'{DECISIONS}, outcome="undecided"', "issuer, reason"),
                "{{reason}} {{issuer}}",
            )
        ],
        "reqps",
        stacked=True,
    ),
    lines(
        "Would be denied",
        "Requests that were allowed, and would be denied if what is only reported were enforced.",
        [Query(rate("verifier_would_deny_total", DECISIONS, "rule, reason"), "{{reason}} ({{rule}})")],
        "reqps",
        stacked=True,
    ),
    table(
        "Would be denied, by issuer",
        "What rules on trial would have denied within the time shown.",
        Query(f"sum by (issuer, surface, rule, reason) (increase(verifier_would_deny_total{{{DECISIONS}}}[$__range]))"),
        {"issuer": "Issuer", "surface": "Surface", "rule": "Rule", "reason": "Reason", "Value": "Requests"},
    ),
)

_ASKING = (
    lines(
        "Decisions by surface",
        "Which of the ways to ask are used.",
        [Query(rate("verifier_decisions_total", DECISIONS, "surface"), "{{surface}}")],
        "reqps",
        stacked=True,
    ),
    lines(
        "Requests by caller",
        "By the secret that they show. unknown are those refused.",
        [Query(rate("verifier_callers_total", by="caller"), "{{caller}}")],
        "reqps",
        stacked=True,
    ),
    lines(
        "Policies for API Gateway",
        "fallback: IAM cannot express the routes, so the policy names the one method alone.",
        [Query(rate("verifier_aws_policies_total", by="policy"), "{{policy}}")],
        "reqps",
        stacked=True,
    ),
    lines(
        "Connections",
        "Open on the data port.",
        [Query(f"verifier_connections{{{INSTANCE}}}", "{{instance}}")],
    ),
    lines(
        "Turned away",
        "Before there was a question: connections refused as too many were open, TLS handshakes that failed, and "
        "requests that HTTP itself refused, by status; and whoever did not show the admin token.",
        [
            Query(rate("verifier_connections_refused_total"), "connections"),
            Query(rate("verifier_handshakes_failed_total"), "handshakes"),
            Query(rate("verifier_http_errors_total", by="status"), "{{status}}"),
            Query(rate("verifier_admin_refusals_total"), "no admin token"),
        ],
        "reqps",
    ),
    lines(
        "Overloaded",
        "Decisions that were not made, as more waited for one issuer than limits.waiting.",
        [Query(rate("verifier_decisions_total", f'{SURFACE}, reason="overloaded"', "issuer"), "{{issuer}}")],
        "reqps",
    ),
)

_BREAKING = (
    bars(
        "Certificates: days left",
        "Until the first of the certificates in use ends: ours, and the authorities of clients. Yellow below 14 days, "
        "red below 3.",
        Query(
            f"min by (instance, certificate) "
            f"(verifier_certificate_expiry_timestamp_seconds{{{INSTANCE}}} - time()) / {DAY}",
            "{{certificate}} {{instance}}",
        ),
        "d",
        ((3, RED), (14, YELLOW)),
    ),
    lines(
        "Age of keys",
        "By issuer, in terms of keys.refresh. Above 6 somebody is paged.",
        [
            Query(
                f"max by (issuer) (verifier_key_set_age_seconds{{{INSTANCE}}} "
                f"/ verifier_key_refresh_interval_seconds{{{INSTANCE}}})",
                "{{issuer}}",
            )
        ],
        "none",
        steps=((6, RED),),
    ),
    states(
        "What others owe us",
        "Whether Redis and the issuers answer.",
        Query(
            f'label_replace(max by (issuer) (verifier_introspection_breaker_open{{{INSTANCE}}}), "of", '
            f'"introspection at $1", "issuer", "(.*)") '
            f'or label_replace(max by (issuer) (verifier_key_set_stale{{{INSTANCE}}}), "of", "keys of $1", "issuer", '
            f'"(.*)") or label_replace(max(verifier_redis_breaker_open{{{INSTANCE}}}), "of", "Redis", "", "")',
            "{{of}}",
        ),
        {"0": ("answers", GREEN), "1": ("does not answer", RED)},
    ),
    states(
        "Files",
        "Whether the present content of each file is in use, or the last good one.",
        Query(f"min by (file) (verifier_file_usable{{{INSTANCE}}})", "{{file}}"),
        {"0": ("unusable", RED), "1": ("in use", GREEN)},
    ),
    lines(
        "Reloads of the configuration",
        "applied, unchanged, or refused; how many between two points.",
        [
            Query(
                f"sum by (result) (increase(verifier_config_reloads_total{{{INSTANCE}}}[$__rate_interval]))",
                "{{result}}",
            )
        ],
    ),
    value(
        "Configuration taken",
        "How long ago the newest of the configurations in force was taken.",
        Query(f"time() - max(verifier_config_last_reload_success_timestamp_seconds{{{INSTANCE}}})"),
        "s",
        width=8,
    ),
    lines(
        "Defects, restarts, lost lines",
        "Errors that should not happen, workers that were replaced, log lines that nobody read; each minute.",
        [
            Query(f"60 * {rate('verifier_defects_total')}", "defects"),
            Query(f"60 * {rate('verifier_worker_restarts_total')}", "workers replaced"),
            Query(f"60 * sum(deriv(verifier_log_lines_dropped{{{INSTANCE}}}[$__rate_interval]))", "log lines dropped"),
        ],
    ),
    lines(
        "Processor",
        "Cores in use by each instance, its workers included.",
        [Query(rate("process_cpu_seconds_total", by="instance"), "{{instance}}")],
        "none",
    ),
    lines(
        "Memory",
        "Resident, of each instance with its workers. What processes share counts for each.",
        [Query(f"process_resident_memory_bytes{{{INSTANCE}}}", "{{instance}}")],
        "bytes",
    ),
    lines(
        "Open files",
        "The share of the open files that the process may have.",
        [Query(f"process_open_fds{{{INSTANCE}}} / process_max_fds{{{INSTANCE}}}", "{{instance}}")],
        "percentunit",
        steps=((0.8, YELLOW),),
    ),
    table(
        "Which alerts fire",
        "docs/runbooks has a page about each.",
        Query('ALERTS{alertname=~"Verifier.*", alertstate="firing"}'),
        {"alertname": "Alert", "severity": "Severity", "job": "Job", "instance": "Instance", "issuer": "Issuer"},
        width=16,
    ),
)


def made() -> Json:
    return dashboard(
        "token-verifier-overview",
        "Token verifier: overview",
        "Is it up, is it fast, is it denying more than usual and why, what is about to break.",
        [NAMESPACE_VARIABLE, JOB_VARIABLE, INSTANCE_VARIABLE, ISSUER_VARIABLE, SURFACE_VARIABLE],
        [
            ("Is it up?", _UP),
            ("Is it fast?", _FAST),
            ("Is it denying more than usual, and why?", _DENYING),
            ("Who asks?", _ASKING),
            ("What is about to break?", _BREAKING),
        ],
    )

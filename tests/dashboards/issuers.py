"""Each issuer: what becomes of its tokens, its keys, its introspection."""

from tests.dashboards.grafana import (
    DECISIONS,
    DOUBTFUL_ABOVE_ZERO,
    GREEN,
    INSTANCE_VARIABLE,
    ISSUER,
    ISSUER_VARIABLE,
    JOB,
    JOB_VARIABLE,
    NAMESPACE_VARIABLE,
    RED,
    SURFACE_VARIABLE,
    YELLOW,
    Json,
    Query,
    dashboard,
    lines,
    quantiles,
    rate,
    states,
    table,
    value,
)

FAILED = f'{ISSUER}, result="error"'
INACTIVE = f'{ISSUER}, result="inactive"'

_TOKENS = (
    lines(
        "Decisions by issuer",
        "Decisions each second about tokens of each issuer.",
        [Query(rate("verifier_decisions_total", f'{DECISIONS}, issuer!=""', "issuer"), "{{issuer}}")],
        "reqps",
        stacked=True,
    ),
    lines(
        "Denied by issuer, now and yesterday",
        "The share of each issuer's decisions that were denials, over an hour, and a day before.",
        [
            Query(f'job_issuer:verifier_denials:ratio_rate1h{{{JOB}, issuer=~"$issuer"}}', "{{issuer}}"),
            Query(
                f'job_issuer:verifier_denials:ratio_rate1h{{{JOB}, issuer=~"$issuer"}} offset 1d',
                "{{issuer}} yesterday",
            ),
        ],
        "percentunit",
    ),
    lines(
        "Denials by reason",
        "Of the chosen issuers. docs/reasons.md says what each reason means.",
        [
            Query(
                rate("verifier_decisions_total", f'{DECISIONS}, issuer!="", outcome="deny"', "issuer, reason"),
                "{{reason}} {{issuer}}",
            )
        ],
        "reqps",
        stacked=True,
    ),
    lines(
        "Undecided by issuer",
        "Questions about its tokens that nobody could answer.",
        [
            Query(
                rate("verifier_decisions_total", f'{DECISIONS}, outcome="undecided"', "issuer, reason"),
                "{{issuer}} {{reason}}",
            )
        ],
        "reqps",
        stacked=True,
    ),
    lines(
        "Waiting decisions",
        "Decisions that wait for the issuer; from limits.waiting on the next ones get 503 overloaded.",
        [Query(f"sum by (issuer) (verifier_decisions_waiting{{{ISSUER}}})", "{{issuer}}")],
    ),
    lines(
        "Tokens with an unknown key",
        "Somebody makes tokens up, or the issuer signs with a key that it does not publish.",
        [Query(f'job_issuer:verifier_unknown_keys:rate5m{{{JOB}, issuer=~"$issuer"}}', "{{issuer}}")],
        "reqps",
        steps=((1, YELLOW),),
    ),
)

_KEYS = (
    value(
        "Issuers without keys",
        "Their tokens get 503.",
        Query(
            f"count(min by (issuer) (verifier_key_set_keys{{{ISSUER}}}) == 0) "
            f"or 0 * count(verifier_key_set_keys{{{ISSUER}}})"
        ),
        steps=((1, RED),),
    ),
    value(
        "Issuers with stale keys",
        "A fetch is overdue, and the keys in hand still serve.",
        Query(f"sum(max by (issuer) (verifier_key_set_stale{{{ISSUER}}}))"),
        steps=DOUBTFUL_ABOVE_ZERO,
    ),
    value(
        "Oldest keys",
        "Time since the keys of any issuer were last fetched, the longest of all.",
        Query(f"max(verifier_key_set_age_seconds{{{ISSUER}}})"),
        "s",
    ),
    value(
        "Keys not used",
        "Keys that issuers publish and that are dropped as weak, private, symmetric or odd.",
        Query(f"sum(max by (issuer, cause) (verifier_keys_dropped{{{ISSUER}}}))"),
    ),
    value(
        "Failed fetches",
        "The share of fetches of keys that failed.",
        Query(
            f"({rate('verifier_key_fetches_total', FAILED)} or vector(0)) "
            f"/ ({rate('verifier_key_fetches_total', ISSUER)} > 0) or vector(0)"
        ),
        "percentunit",
        steps=((0.01, YELLOW), (0.5, RED)),
    ),
    value(
        "Shortest refresh",
        "The shortest of the longest times between two fetches (keys.refresh).",
        Query(f"min(verifier_key_refresh_interval_seconds{{{ISSUER}}})"),
        "s",
    ),
    lines(
        "Age of keys",
        "Time since the keys were last fetched, the longest of all instances.",
        [Query(f"max by (issuer) (verifier_key_set_age_seconds{{{ISSUER}}})", "{{issuer}}")],
        "s",
    ),
    lines(
        "Usable keys",
        "The fewest of all instances; 0 when they are too old to trust.",
        [Query(f"min by (issuer) (verifier_key_set_keys{{{ISSUER}}})", "{{issuer}}")],
    ),
    lines(
        "Fetches of keys",
        "ok, error, or shared where another replica had fetched.",
        [Query(rate("verifier_key_fetches_total", ISSUER, "issuer, result"), "{{issuer}} {{result}}")],
        "ops",
    ),
    states(
        "Stale keys",
        "When the issuer could not be asked while a look at its keys was overdue.",
        Query(f"max by (issuer) (verifier_key_set_stale{{{ISSUER}}})", "{{issuer}}"),
        {"0": ("fresh", GREEN), "1": ("stale", RED)},
    ),
    lines(
        "Keys that are not used",
        "By why they were dropped. verifier doctor names them.",
        [
            Query(
                f"max by (issuer, cause) (verifier_keys_dropped{{{ISSUER}}})",
                "{{issuer}} {{cause}}",
            )
        ],
    ),
    table(
        "Last fetched",
        "Seconds since the keys were last fetched, at the instance that waits longest.",
        Query(f"time() - (min by (issuer) (verifier_key_last_success_timestamp_seconds{{{ISSUER}}}) > 0)"),
        {"issuer": "Issuer", "Value": "Seconds ago"},
    ),
)

_INTROSPECTION = (
    lines(
        "Questions",
        "not_asked: the breaker is open, as the issuer did not answer.",
        [Query(rate("verifier_introspections_total", ISSUER, "issuer, result"), "{{issuer}} {{result}}")],
        "ops",
        stacked=True,
    ),
    lines(
        "Time of questions",
        "Waiting for a turn included. introspection.deadline ends them.",
        quantiles("verifier_introspection_seconds", ISSUER, "issuer"),
        "s",
    ),
    lines(
        "Questions under way",
        "introspection.max_calls at most; from there on they wait for a turn.",
        [Query(f"sum by (issuer) (verifier_introspections_in_flight{{{ISSUER}}})", "{{issuer}}")],
    ),
    states(
        "Breaker",
        "While it is open the issuer is asked once a second, and tokens that are not remembered get 503.",
        Query(f"max by (issuer) (verifier_introspection_breaker_open{{{ISSUER}}})", "{{issuer}}"),
        {"0": ("closed", GREEN), "1": ("open", RED)},
    ),
    lines(
        "Would be denied",
        "Requests that were allowed, and would be denied if what is only reported were enforced.",
        [
            Query(
                rate("verifier_would_deny_total", DECISIONS, "issuer, rule, reason"), "{{issuer}} {{reason}} ({{rule}})"
            )
        ],
        "reqps",
        stacked=True,
    ),
    lines(
        "Inactive tokens",
        "The share of answers that called the token inactive.",
        [
            Query(
                f"{rate('verifier_introspections_total', INACTIVE, 'issuer')} "
                f"/ {rate('verifier_introspections_total', ISSUER, 'issuer')}",
                "{{issuer}}",
            )
        ],
        "percentunit",
    ),
)


def made() -> Json:
    return dashboard(
        "token-verifier-issuers",
        "Token verifier: issuers and keys",
        "What becomes of each issuer's tokens, how fresh its keys are, and whether it answers introspection.",
        [NAMESPACE_VARIABLE, JOB_VARIABLE, INSTANCE_VARIABLE, ISSUER_VARIABLE, SURFACE_VARIABLE],
        [("Tokens", _TOKENS), ("Keys", _KEYS), ("Introspection and what is only reported", _INTROSPECTION)],
    )

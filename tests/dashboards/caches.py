"""What is remembered, what is shared through Redis, and how revocations travel."""

from tests.dashboards.grafana import (
    BAD_ABOVE_ZERO,
    DOUBTFUL_ABOVE_ZERO,
    GREEN,
    INSTANCE,
    INSTANCE_VARIABLE,
    JOB,
    JOB_VARIABLE,
    NAMESPACE_VARIABLE,
    RED,
    YELLOW,
    Json,
    Query,
    dashboard,
    lines,
    quantiles,
    rate,
    states,
    value,
)

_CACHES = (
    lines(
        "Hits",
        "The share of look-ups that found an identity, in memory or shared by another replica.",
        [Query(f"job_kind_tier:verifier_cache_hits:ratio_rate5m{{{JOB}}}", "{{kind}} {{tier}}")],
        "percentunit",
    ),
    lines(
        "Look-ups",
        "Each second.",
        [Query(rate("verifier_cache_lookups_total", by="kind, tier, result"), "{{kind}} {{tier}} {{result}}")],
        "ops",
        stacked=True,
    ),
    lines(
        "Room",
        "Entries held, and entries that there is room for (cache.max_entries of each worker).",
        [
            Query(f"sum by (kind, tier) (verifier_cache_entries{{{INSTANCE}}})", "{{kind}} {{tier}} held"),
            Query(f"sum by (kind, tier) (verifier_cache_capacity{{{INSTANCE}}})", "{{kind}} {{tier}} room"),
        ],
    ),
    lines(
        "How full",
        "The share of the room that is taken.",
        [
            Query(
                f"sum by (instance, kind, tier) (verifier_cache_entries{{{INSTANCE}}}) "
                f"/ sum by (instance, kind, tier) (verifier_cache_capacity{{{INSTANCE}}})",
                "{{kind}} {{tier}} {{instance}}",
            )
        ],
        "percentunit",
    ),
    lines(
        "Pushed out",
        "Entries that gave way to newer ones before their time was over. Many of them: raise cache.max_entries.",
        [Query(rate("verifier_cache_evictions_total", by="kind, tier"), "{{kind}} {{tier}}")],
        "ops",
    ),
    lines(
        "Memory",
        "Resident, of each instance with its workers. An identity takes about 2 KB.",
        [Query(f"process_resident_memory_bytes{{{INSTANCE}}}", "{{instance}}")],
        "bytes",
    ),
)

_REDIS = (
    value(
        "Without Redis",
        "Instances that do not ask Redis, as it did not answer.",
        Query(f"sum(verifier_redis_breaker_open{{{INSTANCE}}})"),
        steps=BAD_ABOVE_ZERO,
    ),
    value(
        "Failing commands",
        "The share of commands that Redis did not carry out, over 5 minutes.",
        Query(f"max(job:verifier_redis_failures:ratio_rate5m{{{JOB}}})"),
        "percentunit",
        steps=((0.001, YELLOW), (0.05, RED)),
    ),
    value(
        "Entries refused",
        "Entries within the time shown that are none of ours: somebody else writes into this Redis.",
        Query(
            f'sum(increase(verifier_sealed_entries_refused_total{{{INSTANCE}, cause=~"format|forged"}}[$__range])) '
            f"or 0 * sum(verifier_redis_breaker_open{{{INSTANCE}}})"
        ),
        steps=BAD_ABOVE_ZERO,
    ),
    value(
        "Writes dropped",
        "Entries within the time shown that were not written, as too many waited.",
        Query(f"sum(increase(verifier_redis_writes_dropped_total{{{INSTANCE}}}[$__range]))"),
        steps=DOUBTFUL_ABOVE_ZERO,
    ),
    value(
        "Revocations unread",
        "Time since the list of revocations was last read to its end, at the instance that waits longest.",
        Query(f"max(verifier_revocations_unread_seconds{{{INSTANCE}}})"),
        "s",
        steps=((2, YELLOW), (5, RED)),
    ),
    value(
        "Revocations held",
        "At any instance. revocations.max_entries is the limit.",
        Query(f"max(verifier_revocations{{{INSTANCE}}})"),
    ),
    lines(
        "Commands",
        "Carried out by Redis each second.",
        [Query(rate("verifier_redis_seconds_count", by="command"), "{{command}}")],
        "ops",
        stacked=True,
    ),
    lines(
        "Time of commands",
        "Of those that Redis carried out. redis.timeout ends the others.",
        quantiles("verifier_redis_seconds", INSTANCE, "command"),
        "s",
    ),
    lines(
        "Commands that failed",
        "Each second, by command.",
        [Query(rate("verifier_redis_errors_total", by="command"), "{{command}}")],
        "ops",
    ),
    states(
        "Redis",
        "Whether it is asked. Without it each replica decides by itself.",
        Query(f"verifier_redis_breaker_open{{{INSTANCE}}}", "{{instance}}"),
        {"0": ("asked", GREEN), "1": ("not asked", RED)},
    ),
    lines(
        "Entries that did not open",
        "other_key while sealing keys are exchanged, expired by chance; format and forged are none of ours.",
        [Query(rate("verifier_sealed_entries_refused_total", by="cause"), "{{cause}}")],
        "ops",
    ),
    lines(
        "Writes dropped, over time",
        "Entries that were not written, as too many waited.",
        [Query(rate("verifier_redis_writes_dropped_total"), "writes")],
        "ops",
    ),
)

_REVOCATIONS = (
    lines(
        "Revocations",
        "Held by each instance; fading are those that only redis.previous_key_file opens.",
        [
            Query(f"verifier_revocations{{{INSTANCE}}}", "{{instance}}"),
            Query(f"verifier_revocations_fading{{{INSTANCE}}}", "{{instance}} fading"),
        ],
    ),
    lines(
        "Time since the list was read",
        "It is read four times a second. Above 5 s somebody is paged.",
        [Query(f"verifier_revocations_unread_seconds{{{INSTANCE}}}", "{{instance}}")],
        "s",
        steps=((5, RED),),
    ),
    lines(
        "How long revocations travel",
        "From a revocation at another replica to its arrival, by their clocks.",
        quantiles("verifier_revocation_lag_seconds"),
        "s",
        steps=((1, YELLOW),),
    ),
)


def made() -> Json:
    return dashboard(
        "token-verifier-caches",
        "Token verifier: caches and Redis",
        "What is remembered, what replicas share through Redis, and how revocations travel.",
        [NAMESPACE_VARIABLE, JOB_VARIABLE, INSTANCE_VARIABLE],
        [("Caches", _CACHES), ("Redis", _REDIS), ("Revocations", _REVOCATIONS)],
    )

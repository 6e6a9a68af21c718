//! The table of bounds in the manual: each row agrees with the configuration or with the source, and
//! none is missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use toml::Table;

const SETTINGS: &str = "config/default.toml";
const PAGE: &str = "docs/operate/bounds.md";
/// The groups of callers that share a bound.
const OWNERS: [&str; 7] =
    ["process", "enterprise", "app", "address", "connection", "request", "session"];

/// Constants with the name of a bound that limit no memory: repetitions, times, texts of errors, sizes
/// from which on something does not wait.
const NO_MEMORY: [(&str, &str); 13] = [
    ("src/domain/consumer.rs", "MAX_ATTEMPTS"),
    ("src/domain/consumer.rs", "MAX_SHARED_ATTEMPTS"),
    ("src/service/feed/consumer_fetch.rs", "MAX_STEPS"),
    ("src/delivery/result_buffer.rs", "FLUSH_BATCH"),
    ("src/domain/event.rs", "MAX_COMPARED"),
    ("src/domain/session.rs", "MAX_SCANNED"),
    ("src/http/auth/attempt_throttle.rs", "MAX_WAIT"),
    ("src/http/shared/json_error.rs", "MAX_NAME_CHARS"),
    ("src/http/shared/retry_after.rs", "MAX_SECONDS"),
    ("src/http/v1/extract/field.rs", "MAX_CHARS"),
    ("src/domain/text.rs", "MAX_CHARS"),
    ("src/repository/sessions/list/plan.rs", "FIRST_WINDOW"),
    ("src/service/batching/queue.rs", "MAX_SINGLES"),
];

/// The tests that go beyond the bounds: a setting, or a constant and its file, then the file of the test
/// and its name. `src/…` is a unit test, any other file is below `tests/api`.
const BEYOND: &[(&str, &str)] = &[
    (
        "server.max_connections",
        "transport/connection_limits.rs::connections_beyond_the_limit_wait_until_others_close",
    ),
    (
        "server.max_connections_per_address",
        "transport/connection_limits.rs::connections_of_an_address_are_limited",
    ),
    (
        "MAX_CONNECTIONS src/http/metrics_server.rs",
        "transport/connection_limits.rs::silent_connections_to_the_metrics_make_room",
    ),
    (
        "MAX_STREAMS src/http/transport/http2.rs",
        "transport/http2.rs::streams_and_headers_are_bounded",
    ),
    (
        "MAX_UNREAD_REFUSALS src/http/transport/http2.rs",
        "transport/http2.rs::client_that_does_not_read_refusals_loses_its_connection",
    ),
    (
        "READ_BURST src/http/transport/timeout_stream.rs",
        "src/http/transport/timeout_stream.rs::bytes_that_are_read_in_one_turn_are_bounded",
    ),
    (
        "WINDOW src/http/transport/http2.rs",
        "transport/http2.rs::bytes_of_bodies_that_are_not_read_yet_are_bounded",
    ),
    (
        "CONNECTION_WINDOW src/http/transport/http2.rs",
        "transport/http2.rs::bytes_of_bodies_that_are_not_read_yet_are_bounded",
    ),
    (
        "MAX_UNCOUNTED_STREAM_HEADERS src/http/transport/stream_memory.rs",
        "src/http/transport/stream_memory.rs::one_short_request_of_a_connection_does_not_count",
    ),
    (
        "MAX_ANONYMOUS_STREAMS src/http/transport/stream_memory.rs",
        "transport/http2.rs::headers_of_running_requests_of_an_address_are_bounded",
    ),
    (
        "MAX_ANONYMOUS_STREAMS src/http/transport/stream_memory.rs",
        "transport/http2.rs::unread_responses_to_an_anonymous_caller_are_bounded",
    ),
    (
        "MAX_ENTERPRISE_STREAMS src/http/transport/stream_memory.rs",
        "transport/http2.rs::unread_responses_to_an_enterprise_leave_memory_to_others",
    ),
    (
        "MIN_READ_RATE src/http/transport/read_allowance.rs",
        "src/http/transport/read_allowance.rs::single_bytes_hold_a_response_for_the_timeout_only",
    ),
    (
        "MIN_READ_RATE src/http/transport/read_allowance.rs",
        "transport/http2.rs::response_that_is_read_byte_by_byte_times_out",
    ),
    (
        "MAX_ANONYMOUS_BODIES src/http/body/budget.rs",
        "bodies.rs::bodies_of_many_anonymous_callers_leave_memory_to_enterprises",
    ),
    (
        "MAX_CHECKS_PER_SECOND src/service/readiness.rs",
        "health.rs::number_of_statements_does_not_depend_on_the_number_of_probes",
    ),
    (
        "server.max_connections",
        "transport/connection_limits.rs::idle_connections_of_an_enterprise_make_room_for_another_one",
    ),
    (
        "MAX_CHUNK src/http/transport/http2_response.rs",
        "transport/http2.rs::large_response_is_sent_in_small_parts",
    ),
    (
        "MAX_LINE_START src/http/transport/h1_line_start.rs",
        "src/http/transport/h1_message_tracker.rs::long_line_about_the_length_of_a_body_is_refused_in_pieces",
    ),
    ("limits.max_header_bytes", "transport/connection_limits.rs::header_limits_are_configurable"),
    ("limits.max_headers", "transport/connection_limits.rs::header_limits_are_configurable"),
    (
        "limits.max_uri_bytes",
        "transport/connection_limits.rs::long_paths_are_refused_in_the_format_of_each_api",
    ),
    ("limits.max_body_bytes", "limits.rs::body_limit_is_exact"),
    ("MAX_TOKEN_REQUEST_BYTES src/http/cgi/token.rs", "bodies.rs::token_request_has_at_most_4_kib"),
    (
        "MAX_DISCARDED_BYTES src/http/body/mod.rs",
        "bodies.rs::caller_is_refused_before_a_large_body_arrives",
    ),
    (
        "limits.max_body_bytes_in_flight",
        "bodies.rs::enterprise_may_hold_as_much_memory_for_bodies_as_remains_free",
    ),
    (
        "limits.max_response_bytes_in_flight",
        "src/http/middleware/response_budget.rs::an_enterprise_holds_a_quarter_and_all_together_the_whole",
    ),
    (
        "limits.max_response_bytes_in_flight",
        "rate_limits/neighbors.rs::slow_readers_of_an_enterprise_hold_its_share_of_memory",
    ),
    (
        "MAX_UNCOUNTED_RESPONSE src/http/middleware/response_budget.rs",
        "src/http/middleware/response_budget.rs::a_response_is_counted_until_its_last_part_is_taken",
    ),
    (
        "PART src/http/middleware/response_budget.rs",
        "src/http/middleware/response_budget.rs::a_response_is_counted_until_its_last_part_is_taken",
    ),
    (
        "MAX_OWNER_COUNTERS src/http/shared/fair_budget.rs",
        "src/http/shared/fair_budget.rs::more_owners_than_counters_share_them",
    ),
    (
        "MAX_PATCH_BYTES src/http/v1/extract/object.rs",
        "src/http/v1/extract/object.rs::attributes_that_are_too_large_are_not_kept",
    ),
    (
        "MAX_UNCOUNTED_VALUES src/http/v1/extract/request_memory.rs",
        "bodies.rs::attributes_count_like_bodies_of_their_memory",
    ),
    ("MAX_FIELDS src/wire/object.rs", "malformed_requests.rs::number_of_fields_is_bounded"),
    ("MAX_TOKEN_LEN src/wire/token.rs", "token.rs::forged_token_does_not_exist"),
    ("token.max_clock_skew", "token.rs::clock_skew_of_five_minutes_is_accepted"),
    (
        "MAX_UNTHROTTLED_SEALED_LEN src/http/auth/authenticate.rs",
        "rate_limits/attempt_throttle.rs::long_sealed_text_from_a_throttled_address_is_not_opened",
    ),
    (
        "MAX_ID_LEN src/http/middleware/request_id.rs",
        "src/http/middleware/request_id.rs::only_a_short_plain_id_of_the_caller_is_accepted",
    ),
    (
        "MAX_SEGMENT src/http/middleware/access_log.rs",
        "src/http/middleware/access_log.rs::logged_path_ends_before_suspicious_characters",
    ),
    ("limits.requests_per_second", "rate_limits/app_rate.rs::app_rate_limit_is_enforced"),
    (
        "limits.max_burst",
        "rate_limits/app_rate.rs::batch_that_is_larger_than_the_burst_is_served_by_a_full_one",
    ),
    (
        "limits.max_failed_attempts",
        "rate_limits/attempt_throttle.rs::failed_attempts_throttle_only_their_address",
    ),
    (
        "CAPACITY src/http/auth/attempt_throttle.rs",
        "src/http/auth/attempt_throttle.rs::memory_is_bounded",
    ),
    (
        "MAX_HOSTS src/config/url_servers.rs",
        "src/config/url_servers.rs::parameters_without_an_effect_are_refused",
    ),
    (
        "MAX_GIVEN_UP src/repository/connections/given_up.rs",
        "faults/failover.rs::statements_that_wait_for_a_lost_standby_leave_no_connections",
    ),
    (
        "MAX_WAITING src/repository/connections/given_up.rs",
        "src/repository/connections/given_up.rs::queue_is_bounded",
    ),
    (
        "MAX_CHANGES src/service/feed/follower.rs",
        "feed/followers.rs::number_of_changes_in_a_poll_is_bounded",
    ),
    (
        "limits.max_streams_per_app",
        "feed/streams/limits.rs::streams_of_an_app_and_of_an_enterprise_are_limited",
    ),
    (
        "limits.max_streams_per_enterprise",
        "feed/streams/limits.rs::streams_of_an_app_and_of_an_enterprise_are_limited",
    ),
    (
        "MAX_WAIT_SECONDS src/http/v1/extract/seconds.rs",
        "src/http/v1/extract/seconds.rs::durations_are_whole_seconds_within_limits",
    ),
    (
        "MAX_QUEUED_BYTES src/service/feed/hub_queue.rs",
        "src/service/feed/hub_queue.rs::stream_with_a_full_queue_is_behind_until_it_listens_again",
    ),
    (
        "MAX_POLLED_BYTES src/service/feed/hub_queue.rs",
        "src/service/feed/hub_queue.rs::stream_takes_a_part_of_its_queue_at_a_time",
    ),
    (
        "MAX_CHANGES src/service/feed/hub_roles.rs",
        "src/service/feed/hub_roles.rs::records_that_the_reader_does_not_take_are_bounded",
    ),
    (
        "MAX_ACCOUNTS src/service/feed/hub_roles.rs",
        "src/service/feed/hub_roles.rs::records_that_the_reader_does_not_take_are_bounded",
    ),
    (
        "MAX_MISSED_BYTES src/service/feed/hub_queue.rs",
        "src/service/feed/hub_queue.rs::stream_whose_client_reads_nothing_is_closed",
    ),
    (
        "MAX_MISSED_BYTES src/service/feed/hub_queue.rs",
        "feed/streams/limits.rs::stream_whose_client_does_not_read_is_closed_and_resumes",
    ),
    (
        "MAX_LIMIT src/http/v1/endpoints/feed/stream.rs",
        "feed/streams/reading.rs::burst_of_changes_arrives_once_and_in_order",
    ),
    (
        "MAX_CHANGES src/service/feed/hub_reader.rs",
        "feed/streams/reading.rs::burst_of_changes_arrives_once_and_in_order",
    ),
    (
        "MAX_CONTENTS src/service/feed/hub_reader.rs",
        "feed/streams/reading.rs::burst_of_changes_arrives_once_and_in_order",
    ),
    (
        "MAX_LAG src/service/feed/hub_reader.rs",
        "src/service/feed/hub_reader.rs::reader_continues_only_on_the_same_history_and_near_its_head",
    ),
    (
        "MAX_UNCOUNTED_HEADERS src/http/transport/pending_headers.rs",
        "src/http/transport/pending_headers.rs::an_address_leaves_as_much_free_as_it_holds",
    ),
    (
        "MAX_PENDING_HEADERS src/http/transport/pending_headers.rs",
        "transport/connection_limits.rs::headers_without_an_end_leave_memory_to_other_addresses",
    ),
    (
        "MIN_LARGE_BYTES src/service/work_turns.rs",
        "src/service/work_turns.rs::small_requests_are_served_between_large_ones",
    ),
    (
        "MAX_LINES src/http/v1/extract/ndjson.rs",
        "src/http/v1/extract/ndjson.rs::number_of_lines_is_bounded",
    ),
    (
        "MAX_LINE_BYTES src/http/v1/extract/ndjson.rs",
        "src/http/v1/extract/ndjson.rs::problem_names_the_line",
    ),
    (
        "Comparison::MAX_STEP src/service/comparison.rs",
        "v1/compare.rs::copy_of_any_length_is_compared",
    ),
    (
        "MAX_UNREAD_BYTES src/http/v1/render/line_stream.rs",
        "v1/compare.rs::client_that_does_not_read_cannot_send_for_ever",
    ),
    (
        "MAX_COMPARISONS src/service/comparison_slots.rs",
        "src/service/comparison_slots.rs::comparisons_are_bounded_for_an_enterprise_and_for_all",
    ),
    (
        "MAX_COMPARISONS_PER_ENTERPRISE src/service/comparison_slots.rs",
        "v1/compare.rs::comparisons_of_an_enterprise_are_bounded",
    ),
    (
        "MAX_REMEMBERED_ATTEMPTS src/service/access.rs",
        "src/service/replay_memory.rs::a_text_is_new_once_and_the_oldest_is_forgotten",
    ),
    (
        "MAX_REMEMBERED_TOKEN_REQUESTS src/service/access.rs",
        "src/service/replay_memory.rs::a_text_is_new_once_and_the_oldest_is_forgotten",
    ),
    (
        "MAX_REMEMBERED_WRITES src/http/auth/sealed_guard.rs",
        "src/service/replay_memory.rs::a_text_is_new_once_and_the_oldest_is_forgotten",
    ),
    (
        "TOKEN_CACHE_CAPACITY src/service/access.rs",
        "src/service/access.rs::number_of_remembered_tokens_is_bounded",
    ),
    ("MAX_ITEMS src/http/v1/endpoints/batch/mod.rs", "v1/batch.rs::batch_size_is_bounded"),
    (
        "CONCURRENCY src/http/v1/endpoints/batch/mod.rs",
        "rate_limits/load_shedding.rs::few_items_of_a_batch_run_at_once",
    ),
    (
        "MAX_IDS src/http/v1/endpoints/list/batch_get.rs",
        "v1/lists/batch_get.rs::number_of_ids_is_bounded",
    ),
    (
        "PageSize::MAX src/service/list/query.rs",
        "src/http/v1/extract/page.rs::page_size_is_bounded",
    ),
    (
        "MAX_MEMBERS src/repository/sessions/read.rs",
        "bounded_reads.rs::batch_get_is_cut_at_its_size_limit_and_lists_the_rest",
    ),
    ("MAX_MEMBERS src/repository/sessions/read.rs", "list/large.rs::page_ends_at_the_member_limit"),
    (
        "MAX_MEMBERS src/http/v1/endpoints/batch/mod.rs",
        "v1/batch.rs::sessions_that_do_not_fit_into_the_response_are_named",
    ),
    ("MAX_PAGE_BYTES src/service/history.rs", "bounded_reads.rs::page_of_large_events_is_short"),
    (
        "MAX_LIMIT src/http/v1/endpoints/feed/page.rs",
        "feed/pages/cursors.rs::invalid_parameters_are_refused",
    ),
    (
        "MAX_SESSIONS src/http/v1/endpoints/feed/page.rs",
        "feed/pages/bounds.rs::page_of_a_snapshot_has_at_most_200_sessions",
    ),
    ("MAX_PAGE_BYTES src/service/feed/pages.rs", "feed/pages/bounds.rs::size_of_a_page_is_bounded"),
    (
        "MAX_SESSION_BYTES src/service/feed/included_sessions.rs",
        "feed/pages/bounds.rs::size_of_a_page_is_bounded",
    ),
    (
        "WINDOW src/repository/feed/page/filter.rs",
        "feed/pages/bounds.rs::filter_that_matches_nothing_resumes_in_one_statement",
    ),
    ("MAX_NAME src/domain/consumer.rs", "src/domain/consumer.rs::names_are_short_plain_text"),
    (
        "ConsumerLimits::MAX_PER_APP src/domain/consumer.rs",
        "v1/consumers/management.rs::app_has_a_largest_number_of_consumers",
    ),
    (
        "ConsumerLimits::MAX_ACTIVE src/domain/consumer.rs",
        "v1/consumers/management.rs::active_events_are_bounded",
    ),
    (
        "ConsumerLimits::MAX_HELD_BACK src/domain/consumer.rs",
        "v1/consumers/management.rs::events_that_are_held_back_are_bounded",
    ),
    (
        "ConsumerLimits::MAX_LISTED src/domain/consumer.rs",
        "v1/consumers/management.rs::status_lists_at_most_100_members",
    ),
    (
        "ConsumerLimits::MAX_FETCH src/domain/consumer.rs",
        "v1/consumers/management.rs::invalid_requests_name_the_field_and_the_limit",
    ),
    (
        "ConsumerLimits::MAX_FETCH_BYTES src/domain/consumer.rs",
        "v1/consumers/management.rs::size_of_a_fetch_is_bounded",
    ),
    (
        "ConsumerLease::MAX_SECONDS src/domain/consumer.rs",
        "src/domain/consumer.rs::lease_is_bounded",
    ),
    (
        "MAX_WAIT_SECONDS src/http/v1/extract/seconds.rs",
        "src/http/v1/extract/seconds.rs::durations_are_whole_seconds_within_limits",
    ),
    (
        "MAX_SELECTED src/service/feed/consumer_fetch.rs",
        "v1/consumers/management.rs::active_events_are_bounded",
    ),
    (
        "MAX_WAITS_PER_APP src/service/feed/consumer_waits.rs",
        "src/service/feed/consumer_waits.rs::waits_are_bounded_for_each_app",
    ),
    (
        "MAX_EXAMINED src/repository/feed/page/previous.rs",
        "feed/pages/bounds.rs::change_before_a_page_is_found_in_several_statements",
    ),
    (
        "FeedCursor::MAX src/service/feed/cursor.rs",
        "src/service/feed/cursor.rs::malformed_cursor_is_refused",
    ),
    (
        "MAX_STEP_EVENTS src/service/history.rs",
        "bounded_reads.rs::replayed_requests_and_reverts_start_at_snapshots_too",
    ),
    (
        "MAX_STEP_BYTES src/service/history.rs",
        "bounded_reads.rs::a_replay_reads_a_few_times_the_size_of_the_session",
    ),
    (
        "LAST_WINDOW src/repository/sessions/list/plan.rs",
        "list/large.rs::rare_sessions_are_found_among_many",
    ),
    (
        "MAX_UNORDERED src/repository/sessions/list/plan.rs",
        "list/large.rs::rare_sessions_are_found_among_many",
    ),
    ("MAX_BYTES src/service/list/cursor.rs", "v1/lists/sessions.rs::invalid_parameters_are_named"),
    ("limits.max_queued", "rate_limits/load_shedding.rs::queue_length_is_bounded"),
    ("limits.max_queued", "src/service/pool_admission.rs::number_of_waiting_requests_is_bounded"),
    (
        "MAX_FULL_SHARES src/service/batching/queue_state.rs",
        "src/service/batching/queue.rs::number_of_full_parts_of_a_queue_is_bounded",
    ),
    (
        "MAX_THREADS src/service/batching/shards.rs",
        "src/service/batching/shards.rs::number_of_threads_with_queues_of_their_own_is_bounded",
    ),
    (
        "database.max_batch",
        "src/service/batching/queue.rs::an_enterprise_that_fills_its_part_of_the_queue_delays_no_other",
    ),
    (
        "MAX_BATCH_WEIGHT src/service/batching/queue_state.rs",
        "src/service/batching/queue.rs::large_commands_share_a_batch_with_few_others",
    ),
    ("database.max_connections", "connection_pool.rs::stalled_connections_release_their_permits"),
    (
        "database.max_connections",
        "rate_limits/neighbors.rs::stuck_reads_of_an_enterprise_leave_connections_to_another",
    ),
    ("cache.max_bytes", "src/service/session_cache.rs::memory_is_bounded"),
    ("limits.min_members", "update.rs::rule_4_member_limits_hold_after_the_update"),
    ("limits.max_members", "session.rs::member_limits_are_configurable"),
    ("Title::MAX src/domain/text.rs", "session.rs::title_has_1_to_64_characters"),
    ("Account::MAX src/domain/text.rs", "session.rs::account_has_1_to_64_characters"),
    (
        "Reason::MAX src/domain/text.rs",
        "src/domain/text.rs::length_limit_counts_characters_not_bytes",
    ),
    (
        "Attributes::MAX_BYTES src/domain/attributes.rs",
        "src/domain/attributes.rs::the_limit_counts_compact_bytes",
    ),
    ("AppId::MAX src/domain/id.rs", "src/domain/id.rs::app_id_has_plain_characters_only"),
    (
        "IdempotencyKey::MAX src/domain/idempotency.rs",
        "src/domain/idempotency.rs::key_is_visible_ascii_of_bounded_length",
    ),
    ("delivery.max_concurrency", "src/delivery/in_flight.rs::attempts_and_sockets_are_bounded"),
    (
        "delivery.max_concurrency_per_app",
        "src/delivery/in_flight.rs::attempts_and_sockets_are_bounded",
    ),
    (
        "MAX_SOCKETS_FACTOR src/delivery/in_flight.rs",
        "src/delivery/in_flight.rs::attempts_and_sockets_are_bounded",
    ),
    (
        "PREFETCH src/delivery/worker.rs",
        "callbacks/leases.rs::stopping_worker_releases_prefetched_deliveries",
    ),
    (
        "MAX_RESPONSE_BYTES src/delivery/sender.rs",
        "callbacks/acknowledgement.rs::only_explicit_acknowledgement_counts",
    ),
    (
        "EXCERPT_CHARS src/delivery/sender.rs",
        "callbacks/acknowledgement.rs::only_explicit_acknowledgement_counts",
    ),
    (
        "RECEIVE_BUFFER src/http/transport/listener.rs",
        "src/http/transport/listener.rs::system_buffers_a_bounded_part_of_a_request_that_is_not_read",
    ),
    (
        "SEND_BUFFER src/http/transport/listener.rs",
        "src/http/transport/listener.rs::buffers_of_a_connection_have_the_sizes_of_the_listener",
    ),
    ("BATCH src/service/pruner.rs", "callbacks/retention.rs::pruning_works_in_batches"),
    (
        "MAX_COUNT src/repository/deliveries/count.rs",
        "metrics/state.rs::large_numbers_of_deliveries_are_counted_up_to_a_bound",
    ),
    ("MAX_CODES src/metrics/requests.rs", "src/metrics/requests.rs::number_of_codes_is_bounded"),
];

/// Bounds that the system or a library enforces. Muster only sets them.
const ENFORCED_ELSEWHERE: [&str; 4] = [
    "BACKLOG src/http/transport/listener.rs",
    "NOTSENT_LOWAT src/http/transport/listener.rs",
    "MAX_LINKS src/telemetry/traces.rs",
    "MAX_QUEUE_SIZE src/telemetry/traces.rs",
];

/// The files that create a queue or places.
const QUEUES: [&str; 5] = [
    "src/http/v1/render/line_stream.rs",
    "src/repository/connections/connection_pool.rs",
    "src/service/batching/queue.rs",
    "src/service/pool_admission.rs",
    "src/service/work_turns.rs",
];

/// Rooms without bounds for callers: commands of operators, settings, the embedded database.
const OPERATORS: [&str; 3] = ["src/cli", "src/config", "src/postgres"];

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A row of the table.
#[derive(Debug)]
struct Row {
    subject: String,
    bound: String,
    name: Name,
    owners: String,
    beyond: String,
}

/// Where the program has the bound.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Setting(String),
    Constant { file: String, name: String },
}

fn rows() -> Vec<Row> {
    let page = read(PAGE);
    let lines = page.lines().filter(|line| line.starts_with("| ")).skip(2);
    let rows: Vec<Row> = lines.map(row).collect();
    assert!(rows.len() > 50, "only {} rows", rows.len());
    rows
}

fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [subject, bound, name, owners, beyond] = cells[..] else { panic!("{line}") };
    let quoted: Vec<&str> = name.split('`').skip(1).step_by(2).collect();
    let name = match quoted[..] {
        [setting] => Name::Setting(setting.to_owned()),
        [name, file] => Name::Constant { file: file.to_owned(), name: name.to_owned() },
        _ => panic!("{line}: names neither a setting nor a constant and its file"),
    };
    let [subject, bound, owners, beyond] = [subject, bound, owners, beyond].map(str::to_owned);
    Row { subject, bound, name, owners, beyond }
}

/// The number of a cell such as `16 KiB` or `4,096 bytes`; `None` if it begins with a word.
fn number(cell: &str) -> Option<i64> {
    let mut words = cell.split(' ');
    let number: i64 = words.next()?.replace(',', "").parse().ok()?;
    let unit = match words.next() {
        Some("KiB") => 1 << 10,
        Some("MiB") => 1 << 20,
        Some("GiB") => 1 << 30,
        Some("bytes" | "characters" | "s") | None => 1,
        Some(unit) => panic!("{cell}: the unit {unit} is not known"),
    };
    Some(number * unit)
}

/// The default of a setting; `None` if there is no such setting.
fn default(settings: &Table, key: &str) -> Option<i64> {
    let (table, key) = key.split_once('.')?;
    settings.get(table)?.get(key)?.as_integer()
}

/// Names of constants with their values, in a source before its tests. A constant of a type also has
/// the name with its type.
fn constants(source: &str) -> Vec<(String, i64)> {
    let source = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    let mut found = Vec::new();
    let mut owner = None;
    for line in source.lines() {
        if let Some(rest) = line.strip_prefix("impl ") {
            owner = rest.split([' ', '<']).next();
        }
        let Some((_, declared)) = line.split_once("const ") else { continue };
        let Some((name, rest)) = declared.split_once(": ") else { continue };
        let Some((_, value)) = rest.split_once(" = ") else { continue };
        let Some(value) = value.strip_suffix(';').and_then(product) else { continue };
        found.push((name.to_owned(), value));
        if let Some(owner) = owner.filter(|_| line.starts_with(' ')) {
            found.push((format!("{owner}::{name}"), value));
        }
    }
    found
}

/// The value of an expression such as `16 * 1_024`.
fn product(text: &str) -> Option<i64> {
    text.split('*').map(|factor| factor.trim().replace('_', "").parse::<i64>().ok()).product()
}

#[test]
fn each_row_of_the_table_agrees_with_the_program() {
    let settings: Table = read(SETTINGS).parse().unwrap();
    let mut seen = BTreeSet::new();
    for row in rows() {
        let Row { subject, bound, name, owners, beyond } = row;
        let expected = match &name {
            // 0 stands for another rule, which the cell has in words.
            Name::Setting(key) => default(&settings, key).map(|value| (value, value != 0)),
            Name::Constant { file, name } => {
                let values = constants(&read(file));
                values.iter().find(|(found, _)| found == name).map(|(_, value)| (*value, true))
            }
        };
        let Some((value, is_number)) = expected else { panic!("{subject}: no {name:?}") };
        assert_eq!(number(&bound), is_number.then_some(value), "{subject}: {name:?}");
        assert!(OWNERS.iter().any(|owner| owners.starts_with(owner)), "{subject}: {owners}");
        assert!(!beyond.is_empty(), "{subject}: nothing is said about more");
        assert!(seen.insert(name), "{subject}: the bound has two rows");
    }
}

#[test]
fn each_setting_of_a_limit_has_a_row() {
    let settings: Table = read(SETTINGS).parse().unwrap();
    let listed: BTreeSet<Name> = rows().into_iter().map(|row| row.name).collect();
    for (table, keys) in &settings {
        let Some(keys) = keys.as_table() else { continue };
        for key in keys.keys().filter(|key| table == "limits" || key.starts_with("max_")) {
            let name = Name::Setting(format!("{table}.{key}"));
            assert!(listed.contains(&name), "{PAGE} has no row for {name:?}");
        }
    }
}

/// The Rust sources below a directory, by their path from the root.
fn sources(directory: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut directories: Vec<PathBuf> = vec![root.join(directory)];
    let mut found = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// Whether a constant bounds a number of things, by its name.
fn is_bound(name: &str) -> bool {
    let endings =
        ["BATCH", "CAPACITY", "CHARS", "CODES", "CONCURRENCY", "PART", "PREFETCH", "WINDOW"];
    let is_named = name.starts_with("MAX") || endings.iter().any(|ending| name.ends_with(ending));
    is_named && !name.contains("::") && !name.ends_with("_RETRIES")
}

#[test]
fn each_constant_of_a_bound_has_a_row() {
    let listed: BTreeSet<Name> = rows().into_iter().map(|row| row.name).collect();
    let has_row = |file: &str, name: &str| {
        let (file, name) = (file.to_owned(), name.to_owned());
        listed.contains(&Name::Constant { file, name })
    };
    let mut checked = 0;
    for file in sources("src") {
        if OPERATORS.iter().any(|room| file.starts_with(room)) {
            continue;
        }
        let constants = constants(&read(&file));
        for (index, (name, _)) in constants.iter().enumerate() {
            if !is_bound(name) || NO_MEMORY.contains(&(file.as_str(), name.as_str())) {
                continue;
            }
            // The name with the type follows the name.
            let with_type = constants.get(index + 1).map(|(next, _)| next.as_str());
            let with_type = with_type.filter(|next| next.ends_with(&format!("::{name}")));
            let is_listed =
                has_row(&file, name) || with_type.is_some_and(|name| has_row(&file, name));
            assert!(is_listed, "{PAGE} has no row for {name} in {file}");
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} constants were found");
}

impl Name {
    /// The form of [`BEYOND`].
    fn text(&self) -> String {
        match self {
            Self::Setting(key) => key.clone(),
            Self::Constant { file, name } => format!("{name} {file}"),
        }
    }
}

#[test]
fn each_bound_has_a_test_that_goes_beyond_it() {
    let rows: BTreeSet<String> = rows().iter().map(|row| row.name.text()).collect();
    let tested = BEYOND.iter().map(|(bound, _)| *bound);
    let listed: BTreeSet<String> = tested.chain(ENFORCED_ELSEWHERE).map(str::to_owned).collect();
    assert_eq!(rows.difference(&listed).collect::<Vec<_>>(), [] as [&String; 0], "no test");
    assert_eq!(listed.difference(&rows).collect::<Vec<_>>(), [] as [&String; 0], "no row");
    for (bound, test) in BEYOND {
        let (file, name) = test.split_once("::").unwrap();
        let path =
            if file.starts_with("src/") { file.to_owned() } else { format!("tests/api/{file}") };
        assert!(read(&path).contains(&format!("fn {name}(")), "{bound}: {test} does not exist");
    }
}

#[test]
fn each_queue_is_bounded_and_known() {
    for file in sources("src") {
        if OPERATORS.iter().any(|room| file.starts_with(room)) {
            continue;
        }
        let source = read(&file);
        let source = source.split("#[cfg(test)]\nmod tests").next().unwrap();
        assert!(!source.contains("unbounded_channel"), "{file} has an unbounded queue");
        let has_queue =
            ["Semaphore::new(", "mpsc::channel(", "sync_channel(", "broadcast::channel("]
                .iter()
                .any(|queue| source.contains(queue));
        assert_eq!(has_queue, QUEUES.contains(&file.as_str()), "{file}: see the rows of {PAGE}");
    }
}

#[test]
fn cells_and_constants_are_read_as_numbers() {
    for (cell, value) in [
        ("1,048,576", Some(1_048_576)),
        ("16 KiB", Some(16_384)),
        ("4,096 bytes", Some(4_096)),
        ("none", None),
        ("half of `server.max_connections`", None),
    ] {
        assert_eq!(number(cell), value, "{cell}");
    }
    let source = "const A: usize = 16 * 1_024;\nimpl B {\n    pub const C: u16 = 7;\n}\n\
                  const D: usize = E as usize;\n#[cfg(test)]\nmod tests {\n    const F: i64 = 1;\n}\n";
    let found = constants(source);
    let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(found, [("A", 16_384), ("C", 7), ("B::C", 7)]);
}

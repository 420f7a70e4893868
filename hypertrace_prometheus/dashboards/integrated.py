"""Names of the metrics and labels of integrations that dashboards and rules ask for."""

ENTRIES = "entry_duration_seconds"
ENTRY_BOUNDS = (30, 60, 300, 900, 3600)
"""Bounds of its buckets beyond the usual ones."""
ENTRIES_ACTIVE = "entries_in_progress"
KIND, ENTRY, RESULT = "kind", "name", "result"

SERVER_REQUESTS = "http_server_request_duration_seconds"
SERVER_ACTIVE = "http_server_active_requests"
RECEIVED = "http_server_request_body_size_bytes"
SENT = "http_server_response_body_size_bytes"
METHOD, ROUTE, STATUS = "http_request_method", "http_route", "http_response_status_code"
ERROR = "error_type"
UNMATCHED = "<unmatched>"
"""The route of requests that match none."""

MESSAGES = "websocket_server_message_duration_seconds"
MESSAGE_COUNTS = "websocket_server_messages_total"
CONNECTIONS = "websocket_server_active_connections"
MESSAGE, DIRECTION = "websocket_event", "network_io_direction"

JOBS = "jobs_duration_seconds"
JOB_EVENTS = "jobs_total"
JOB_WAITS = "jobs_queue_wait_seconds"
JOBS_RUNNING = "jobs_in_progress"
JOB, QUEUE, EVENT = "job_name", "queue", "event"

CLIENT_REQUESTS = "http_client_request_duration_seconds"
CLIENT_ACTIVE = "http_client_active_requests"
CONNECTS = "http_client_connect_duration_seconds"
LOOKUPS = "http_client_name_lookup_duration_seconds"
ADDRESS, PORT = "server_address", "server_port"

QUERIES = "db_client_operation_duration_seconds"
AFFECTED = "db_client_affected_rows_total"
RETURNED = "db_client_returned_rows_total"
POOL_WAITS = "db_client_connection_wait_time_seconds"
POOL_PENDING = "db_client_connection_pending_requests"
POOLED = "db_client_connections"
SYSTEM, OPERATION, TABLE = "db_system_name", "db_operation_name", "db_collection_name"
POOL, STATE = "db_client_connection_pool_name", "db_client_connection_state"

MODELS = "model_events_total"
APP, MODEL, ACTION = "app", "model", "action"

LAGS = "asyncio_event_loop_lag_seconds"
TASKS = "asyncio_tasks"
LOOPS = "asyncio_event_loops"
THREAD = "thread"

PAUSES = "cpython_gc_pause_seconds"
COLLECTIONS = "cpython_gc_collections_total"
COLLECTED = "cpython_gc_collected_objects_total"
UNCOLLECTABLE = "cpython_gc_uncollectable_objects_total"
GENERATION = "cpython_gc_generation"

CPU = "process_cpu_time_seconds_total"
MEMORY = "process_memory_usage_bytes"
ADDRESSES = "process_memory_virtual_bytes"
THREADS = "process_thread_count"
SWITCHES = "process_context_switches_total"
FAULTS = "process_paging_faults_total"
FILES = "process_unix_file_descriptor_count"
MOST_FILES = "process_unix_file_descriptor_limit"
UPTIME = "process_uptime_seconds"
CPU_MODE, SWITCH, FAULT = "cpu_mode", "process_context_switch_type", "system_paging_fault_type"

METRICS = (
    *(ENTRIES, ENTRIES_ACTIVE),
    *(SERVER_REQUESTS, SERVER_ACTIVE, RECEIVED, SENT, MESSAGES, MESSAGE_COUNTS, CONNECTIONS),
    *(JOBS, JOB_EVENTS, JOB_WAITS, JOBS_RUNNING),
    *(CLIENT_REQUESTS, CLIENT_ACTIVE, CONNECTS, LOOKUPS),
    *(QUERIES, AFFECTED, RETURNED, POOL_WAITS, POOL_PENDING, POOLED, MODELS),
    *(LAGS, TASKS, LOOPS, PAUSES, COLLECTIONS, COLLECTED, UNCOLLECTABLE),
    *(CPU, MEMORY, ADDRESSES, THREADS, SWITCHES, FAULTS, FILES, MOST_FILES, UPTIME),
)
"""All of them, so that they can be shown under other names."""

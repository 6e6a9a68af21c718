-- Adds the trace of the request that made a change to the deliveries of the change.
--
-- The trace is stored with the delivery and not with the event, because the trace is needed only
-- until the callback has arrived. A change without subscribers thus stores no trace. A null takes
-- no space.

alter table delivery
    -- The ids of W3C Trace Context: the trace (16 bytes), the span (8 bytes) and the flags (1 byte).
    add column trace bytea constraint delivery_trace_length check (octet_length(trace) = 25);

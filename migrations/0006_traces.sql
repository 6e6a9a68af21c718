-- The trace of the request that made a change goes with the callbacks that tell of it.
--
-- It stands with the delivery and not with the event: it is of use until the callback has arrived, and
-- where nobody is told there is none. A null takes no room.

alter table delivery
    -- As W3C Trace Context numbers them: the trace (16 bytes), the span (8), the flags (1).
    add column trace bytea constraint delivery_trace_length check (octet_length(trace) = 25);

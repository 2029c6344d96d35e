"""The Erlang expression that reports a broker's status."""

from __future__ import annotations

# Where the broker moves the dead letters of a queue, by policy or argument; null: a job that fails there is lost. A policy with
# keys that the type of a queue does not know does not apply to it at all.
DEAD_LETTERS_TO = """
    DeadLettersTo = fun(Q) -> case rabbit_policy:get(<<"dead-letter-exchange">>, Q) of
        undefined -> case rabbit_misc:table_lookup(amqqueue:get_arguments(Q), <<"x-dead-letter-exchange">>) of
            {_, X} -> X; _ -> null end;
        X -> X end end,
    TypeOf = fun(Q) -> case amqqueue:get_type(Q) of rabbit_quorum_queue -> quorum; rabbit_classic_queue -> classic;
        rabbit_stream_queue -> stream; T -> T end end,
"""

# Depths come from the queue's leader, since the broker's metrics are up to five seconds old. The age is that of the oldest entry
# in the queue's log that is still needed, which the leader stamped when the message arrived. Acknowledgements are a counter of
# this node since its start; it is read twice, one second apart, with the depths.
BROKER = (
    DEAD_LETTERS_TO
    + """
    Text = fun(A) when is_atom(A) -> atom_to_binary(A, utf8); (B) when is_binary(B) -> B;
              (T) -> iolist_to_binary(io_lib:format("~p", [T])) end,
    Value = fun(F, Else) -> case catch F() of {ok, {_, V}, _} -> V; {ok, V} -> V; _ -> Else end end,
    Depth = fun(Q) -> {resource, VHost, _, Name} = amqqueue:get_name(Q), L = amqqueue:get_pid(Q),
        #{vhost => VHost, name => Name,
          messages => Value(fun() -> ra:local_query(L, fun rabbit_fifo:query_messages_total/1) end, 0)} end,
    Counters = fun() -> #{at_ms => erlang:system_time(millisecond),
        acknowledged => lists:sum([maps:get(messages_acknowledged_total, C, 0)
                                   || {_, C} <- maps:to_list(rabbit_global_counters:overview())]),
        depths => [Depth(Q) || Q <- rabbit_amqqueue:list(), amqqueue:get_type(Q) =:= rabbit_quorum_queue]} end,
    First = Counters(),
    Now = erlang:system_time(millisecond),
    Queue = fun(Q) ->
        {resource, VHost, _, Name} = amqqueue:get_name(Q),
        Own = case amqqueue:get_type(Q) of
            rabbit_quorum_queue ->
                L = amqqueue:get_pid(Q),
                I = case catch rabbit_quorum_queue:info(Q, [members, online, messages_ready, messages_unacknowledged]) of
                        P when is_list(P) -> P; _ -> [] end,
                Ready = Value(fun() -> ra:local_query(L, fun rabbit_fifo:query_messages_ready/1) end, null),
                Out = Value(fun() -> ra:local_query(L, fun rabbit_fifo:query_messages_checked_out/1) end, null),
                Since = Value(fun() -> ra:aux_command(L, oldest_entry_timestamp) end, null),
                #{type => quorum, ready => Ready, unacknowledged => Out,
                  oldest_ms => if is_integer(Since), is_integer(Ready), is_integer(Out), Ready + Out > 0 ->
                                   max(0, Now - Since); true -> null end,
                  members => [Text(M) || M <- proplists:get_value(members, I, [])],
                  online => [Text(M) || M <- proplists:get_value(online, I, [])]};
            _ ->
                I = case catch rabbit_amqqueue:info(Q, [messages_ready, messages_unacknowledged]) of
                        P when is_list(P) -> P; _ -> [] end,
                #{type => TypeOf(Q), ready => proplists:get_value(messages_ready, I, null),
                  unacknowledged => proplists:get_value(messages_unacknowledged, I, null), oldest_ms => null}
        end,
        Own#{vhost => VHost, name => Name, dead_letters_to => DeadLettersTo(Q)}
    end,
    Consumers = [begin
        {resource, _, _, Name} = proplists:get_value(queue_name, C),
        Pid = proplists:get_value(channel_pid, C),
        Channel = case ets:lookup(channel_created, Pid) of [{_, P}] -> P; _ -> [] end,
        #{vhost => V, queue => Name, connection => Text(proplists:get_value(name, Channel, <<>>))}
    end || V <- rabbit_vhost:list_names(), C <- rabbit_amqqueue:consumers_all(V),
           node(proplists:get_value(channel_pid, C)) =:= node()],
    Queues = [Queue(Q) || Q <- rabbit_amqqueue:list()],
    timer:sleep(max(0, 1000 - (erlang:system_time(millisecond) - maps:get(at_ms, First)))),
    #{node => node(), version => Text(list_to_binary(rabbit_misc:version())),
      started_ms => erlang:convert_time_unit(erlang:system_info(start_time) + erlang:time_offset(), native, millisecond),
      alarms => lists:usort([case A of {{resource_limit, R, N}, _} -> #{what => Text(R), node => Text(N)};
                                       _ -> #{what => Text(A), node => node()} end || A <- rabbit_alarm:get_alarms()]),
      running => [Text(N) || N <- case erlang:function_exported(rabbit_nodes, list_running, 0) of
          true -> apply(rabbit_nodes, list_running, []); false -> apply(rabbit_nodes, all_running, []) end],
      queues => Queues, consumers => Consumers, counters => [First, Counters()]}
"""
)

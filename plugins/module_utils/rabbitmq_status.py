"""The Erlang expression that reports a broker's status."""

from __future__ import annotations

# What a queue is and does with its jobs. A queue argument wins over a policy, and of two numbers the lower. A policy with keys
# that the type of a queue does not know does not apply to it at all.
FACTS = """
    TypeOf = fun(Q) -> case amqqueue:get_type(Q) of rabbit_quorum_queue -> quorum; rabbit_classic_queue -> classic;
        rabbit_stream_queue -> stream; T -> T end end,
    Argument = fun(K, Q) -> case rabbit_misc:table_lookup(amqqueue:get_arguments(Q), <<"x-", K/binary>>) of
        {_, V} -> V; _ -> null end end,
    InForce = fun(K, Q) -> case {Argument(K, Q), rabbit_policy:get(K, Q)} of
        {null, undefined} -> null; {null, P} -> P;
        {A, P} when is_number(A), is_number(P) -> min(A, P);
        {A, _} -> A end end,
    Least = fun(Keys, Q) -> lists:foldl(fun(K, null) -> InForce(K, Q); (_, V) -> V end, null, Keys) end,
    %% The name of a queue of one process ends with a UUID; the exchange of a broadcast has the name that the code knows.
    Exchanges = fun(Q) -> {resource, _, _, OwnName} = amqqueue:get_name(Q),
        case re:run(OwnName, <<"[0-9a-f]{12}$">>) of nomatch -> [];
            _ -> [From || {binding, {resource, _, _, From}, _, _, _} <- rabbit_binding:list_for_destination(amqqueue:get_name(Q)),
                          From =/= <<>>] end end,
    Facts = fun(Q) ->
        {resource, VHost, _, Name} = amqqueue:get_name(Q),
        #{vhost => VHost, name => Name, type => TypeOf(Q), exchanges => Exchanges(Q),
          dead_letters_to => InForce(<<"dead-letter-exchange">>, Q),
          strategy => case InForce(<<"dead-letter-strategy">>, Q) of null -> <<"at-most-once">>; S -> S end,
          delivery_limit => InForce(<<"delivery-limit">>, Q), ttl_ms => InForce(<<"message-ttl">>, Q),
          expires_ms => InForce(<<"expires">>, Q), consumer_timeout_ms => InForce(<<"consumer-timeout">>, Q),
          overflow => InForce(<<"overflow">>, Q),
          max_length => Least([<<"max-length">>, <<"max-length-bytes">>], Q), priorities => Argument(<<"max-priority">>, Q),
          temporary => not amqqueue:is_durable(Q) orelse amqqueue:is_auto_delete(Q)
                       orelse amqqueue:get_exclusive_owner(Q) =/= none} end,
"""

# Depths come from the queue's leader, since the broker's metrics are up to five seconds old. The age is that of the oldest entry
# in the queue's log that is still needed, which the leader stamped when the message arrived. Acknowledgements are a counter of
# this node since its start; it is read twice, one second apart, with the depths.
BROKER = (
    FACTS
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
        Own = case amqqueue:get_type(Q) of
            rabbit_quorum_queue ->
                L = amqqueue:get_pid(Q),
                I = case catch rabbit_quorum_queue:info(Q, [members, online, messages_ready, messages_unacknowledged]) of
                        P when is_list(P) -> P; _ -> [] end,
                Ready = Value(fun() -> ra:local_query(L, fun rabbit_fifo:query_messages_ready/1) end, null),
                Out = Value(fun() -> ra:local_query(L, fun rabbit_fifo:query_messages_checked_out/1) end, null),
                Since = Value(fun() -> ra:aux_command(L, oldest_entry_timestamp) end, null),
                #{ready => Ready, unacknowledged => Out,
                  oldest_ms => if is_integer(Since), is_integer(Ready), is_integer(Out), Ready + Out > 0 ->
                                   max(0, Now - Since); true -> null end,
                  members => [Text(M) || M <- proplists:get_value(members, I, [])],
                  online => [Text(M) || M <- proplists:get_value(online, I, [])]};
            _ ->
                I = case catch rabbit_amqqueue:info(Q, [messages_ready, messages_unacknowledged]) of
                        P when is_list(P) -> P; _ -> [] end,
                #{ready => proplists:get_value(messages_ready, I, null),
                  unacknowledged => proplists:get_value(messages_unacknowledged, I, null), oldest_ms => null}
        end,
        maps:merge(Facts(Q), Own)
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

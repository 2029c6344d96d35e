"""The Erlang expression that reads dead letters without touching them."""

from __future__ import annotations

from . import rabbitmq_cli
from .broker_operator import LISTENERS, TLS_FILES
from .rabbitmq_status import FACTS

# Reads the letters from the queue's log as `rabbitmq-queues peek` does.
LOOK = (
    FACTS
    + """
    Only = VHOSTS, Limit = LIMIT,
    Text = fun(B) when is_binary(B) -> B; (A) when is_atom(A) -> atom_to_binary(A, utf8);
              (T) -> iolist_to_binary(io_lib:format("~p", [T])) end,
    Plain = fun Go({table, T}) -> maps:from_list([{K, Go({Ty, V})} || {K, Ty, V} <- T]);
                Go({array, A}) -> [Go(V) || V <- A];
                Go({_, undefined}) -> null;
                Go({_, V}) when is_number(V); is_binary(V); is_boolean(V) -> V;
                Go({_, V}) -> Text(V) end,
    Get = fun(K, P) -> case proplists:get_value(<<"header.", K/binary>>, P) of
        undefined -> null; V when is_number(V); is_binary(V); is_boolean(V) -> V; V -> Text(V) end end,
    Content = fun(M) when element(1, M) =:= basic_message -> element(4, M);
                 (M) -> mc:protocol_state(mc:convert(mc_amqpl, M)) end,
    Body = fun(Q, Position) -> case catch ra:aux_command(amqqueue:get_pid(Q), {peek, Position}) of
        {ok, {_, M}} -> case catch rabbit_basic_common:from_content(Content(M)) of
            {_, B} when is_binary(B) -> base64:encode(B); _ -> null end;
        _ -> null end end,
    Letter = fun(Q, Position) -> case rabbit_quorum_queue:peek(Position, Q) of
        {ok, P} -> {true, (maps:from_list([{K, Get(K, P)} || K <- HEADERS]))#{
            body => case BODIES of true -> Body(Q, Position); false -> null end,
            deaths => [Plain(D) || D <- case proplists:get_value(<<"header.x-death">>, P) of
                L when is_list(L) -> L; _ -> [] end]}};
        _ -> false end end,
    Config = fun(Q) -> case catch ra:member_overview(amqqueue:get_pid(Q)) of
        {ok, #{machine := #{config := C}}} -> C; _ -> #{} end end,
    Number = fun(V) when is_integer(V) -> V; (_) -> null end,
    #{letters => [begin
        {resource, VHost, _, _} = amqqueue:get_name(Q),
        {ok, {_, Ready}, _} = ra:local_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_ready/1),
        Settings = Config(Q),
        #{vhost => VHost, ready => Ready,
          delivery_limit => Number(maps:get(delivery_limit, Settings, null)), ttl => Number(maps:get(msg_ttl, Settings, null)),
          letters => lists:filtermap(fun(P) -> Letter(Q, P) end, lists:seq(1, min(Limit, Ready)))}
      end || Q <- rabbit_amqqueue:list(), amqqueue:get_type(Q) =:= rabbit_quorum_queue,
             element(4, amqqueue:get_name(Q)) =:= <<"dead_letters">>,
             Only =:= [] orelse lists:member(element(2, amqqueue:get_name(Q)), Only)],
      version => list_to_binary(rabbit_misc:version()),
      queues => [Facts(Q)
                 || Q <- rabbit_amqqueue:list(), Only =:= [] orelse lists:member(element(2, amqqueue:get_name(Q)), Only)],
      listeners => LISTENERS, tls => TLS_FILES}
"""
)
HEADERS = ("id", "task", "retries", "expires", "origin", "x-last-death-queue")


def expression(vhosts: list[str], limit: int, show_arguments: bool) -> str:
    headers = (*HEADERS, "argsrepr", "kwargsrepr") if show_arguments else HEADERS
    return (
        LOOK.replace("VHOSTS", f"[{', '.join(map(rabbitmq_cli.erlang_binary, vhosts))}]")
        .replace("LIMIT", str(limit))
        .replace("LISTENERS", LISTENERS)
        .replace("TLS_FILES", TLS_FILES)
        .replace("BODIES", str(show_arguments).lower())
        .replace("HEADERS", f"[{', '.join(map(rabbitmq_cli.erlang_binary, headers))}]")
    )

"""The Erlang expressions that replace a queue by one of another type, and the sentences that refuse it."""

from __future__ import annotations

from typing import Any

from . import rabbitmq_cli
from .broker_operator import LISTENERS, TLS_FILES
from .queue_faults import is_work
from .rabbitmq_objects import Refusal
from .rabbitmq_status import FACTS

NAMES = """
    Name = rabbit_misc:r(VHOST, queue, QUEUE), Aside = rabbit_misc:r(VHOST, queue, ASIDE), Me = OPERATOR,
    Quorum = [{<<"x-queue-type">>, longstr, <<"quorum">>}],
    Count = fun(Q, Key) -> case amqqueue:get_type(Q) of
        rabbit_quorum_queue when Key =:= messages ->
            {ok, {_, V}, _} = ra:local_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_total/1), V;
        _ -> [{_, V}] = rabbit_amqqueue:info(Q, [Key]), V end end,
    Classic = [<<"x-queue-type">>, <<"x-queue-mode">>, <<"x-queue-version">>, <<"x-queue-master-locator">>],
    Kept = fun(Q) -> [A || {K, _, _} = A <- amqqueue:get_arguments(Q), not lists:member(K, Classic)] ++ Quorum end,
"""

# Both queues as they are now; null for one that does not exist. `publishing` is what blocks every publisher.
STATE = (
    FACTS
    + NAMES
    + """
    Look = fun(N) -> case rabbit_amqqueue:lookup(N) of
        {ok, Q} -> (Facts(Q))#{messages => Count(Q, messages), consumers => Count(Q, consumers)}; _ -> null end end,
    #{queue => Look(Name), aside => Look(Aside), alarms => length(rabbit_alarm:get_alarms()),
      names => [element(4, amqqueue:get_name(Q)) || Q <- rabbit_amqqueue:list(VHOST)], listeners => LISTENERS, tls => TLS_FILES}
"""
)

# Declares a queue for the jobs while the other one is replaced. Before, it tries whether a quorum queue can have its arguments.
SET_ASIDE = (
    NAMES
    + """
    Declare = fun(N, Arguments) -> case catch rabbit_amqqueue:declare(N, true, false, Arguments, none, Me) of
        {new, Q} -> {ok, Q}; {existing, Q} -> {ok, Q};
        Refused -> {error, iolist_to_binary(io_lib:format("~p", [Refused]))} end end,
    Tried = case rabbit_amqqueue:lookup(Name) of
        {ok, Old} -> case Declare(rabbit_misc:r(VHOST, queue, <<"moving.", (element(4, Name))/binary>>), Kept(Old)) of
            {ok, New} -> rabbit_amqqueue:delete(New, false, false, Me), ok; Failed -> Failed end;
        _ -> ok end,
    case Tried of
        ok -> case Declare(Aside, Quorum) of {ok, _} -> <<>>; {error, Why} -> Why end;
        {error, Why} -> Why end
"""
)

# Holds every publisher as an alarm does, except this module's connection, which empties the queue meanwhile. Once it has stayed
# empty, it is deleted, declared again as a quorum queue with the same arguments, and bound as before. If it is not empty within
# the patience, nothing has changed. Should the broker be unable to declare it, publishers stay held: their jobs would reach no
# queue.
SWITCH = (
    NAMES
    + """
    Alarm = {resource_limit, memory, node()},
    Empty = fun Wait(_, _, QUIET) -> true;
                Wait(_, 0, _) -> false;
                Wait(Q, Left, Still) -> timer:sleep(20),
                    Wait(Q, Left - 1, case Count(Q, messages) of 0 -> Still + 1; _ -> 0 end) end,
    {Old, Arguments, Bindings} = case rabbit_amqqueue:lookup(Name) of
        {ok, Found} -> {Found, Kept(Found), [B || B <- rabbit_binding:list_for_destination(Name),
                                                  element(4, element(2, B)) =/= <<>>]};
        _ -> {none, Quorum, []} end,
    Since = erlang:monotonic_time(millisecond),
    Held = fun() -> erlang:monotonic_time(millisecond) - Since end,
    rabbit_alarm:set_alarm({Alarm, []}),
    try
        timer:sleep(100),
        [P ! {conserve_resources, memory, false} || P <- rabbit_networking:local_connections(),
            case catch rabbit_networking:connection_info(P, [user]) of [{user, Me}] -> true; _ -> false end],
        case Old =:= none orelse Empty(Old, PATIENCE, 0) of
            false -> #{switched => false, held_ms => Held(), why => not_empty};
            true ->
                Deleted = case Old of none -> {ok, 0}; _ -> rabbit_amqqueue:delete(Old, true, true, Me) end,
                case Deleted of
                    {ok, _} ->
                        {_, _} = rabbit_amqqueue:declare(Name, true, false, Arguments, none, Me),
                        [ok = rabbit_binding:add(B, Me) || B <- Bindings],
                        #{switched => true, held_ms => Held(), bindings => length(Bindings)};
                    {error, Why} -> #{switched => false, held_ms => Held(), why => Why}
                end
        end
    after
        case rabbit_amqqueue:lookup(Name) of {ok, _} -> rabbit_alarm:clear_alarm(Alarm); _ -> ok end
    end
"""
)

DROP_ASIDE = (
    NAMES
    + """
    case rabbit_amqqueue:lookup(Aside) of
        {ok, Q} -> case {Count(Q, messages), Count(Q, consumers)} of  % a quorum queue knows no deletion on this condition
            {0, 0} -> {ok, _} = rabbit_amqqueue:delete(Q, false, false, Me), true;
            _ -> false end;
        _ -> true end
"""
)
# Polls of 20 ms: as long as a message may be under way inside the broker, and at most.
QUIET, PATIENCE = 10, 400


def ask(expression: str, vhost: str, queue: str, aside: str, user: str) -> Any:
    words = {"VHOST": vhost, "QUEUE": queue, "ASIDE": aside, "OPERATOR": user}
    for word, text in words.items():
        expression = expression.replace(word, rabbitmq_cli.erlang_binary(text))
    figures = {"QUIET": str(QUIET), "PATIENCE": str(PATIENCE), "LISTENERS": LISTENERS, "TLS_FILES": TLS_FILES}
    for word, text in figures.items():
        expression = expression.replace(word, text)
    return rabbitmq_cli.ask(expression, timeout=60)


def refuse(vhost: str, name: str, state: dict[str, Any], unused: bool) -> None:
    """Raises a sentence for a queue that must stay as it is, or cannot be replaced now.  unused: it may have no consumer."""
    place, queue = f"{vhost}/{name}", state["queue"]
    if queue is None and state["aside"] is None:
        known = ", ".join(sorted(filter(is_work, state["names"]))) or "none"
        raise Refusal(f"The broker has no queue {place}. Its work queues are: {known}.")
    if not is_work(name):
        raise Refusal(f"No job waits in {place}: dead letters, replies, events and remote control need their type. Leave it.")
    if state["alarms"]:
        raise Refusal("The broker has an alarm and accepts no message. Free memory or disk (make status), and run again.")
    if queue is None:
        return
    if queue["priorities"] is not None:
        raise Refusal(
            f"{place} has {queue['priorities']} priorities, which a quorum queue does not know: its declaration would be refused "
            f"from then on. Take x-max-priority out of the application's code, and let it declare a queue under another name."
        )
    if queue["temporary"]:
        raise Refusal(
            f"{place} is deleted with its connection or emptied by a restart of the broker, as reply and broadcast queues are. "
            f"Leave it, or let the application's code declare it durable under another name."
        )
    if queue["type"] not in ("classic", "quorum"):
        raise Refusal(f"{place} is a {queue['type']}, which keeps what was read. Declare a queue under another name.")
    if unused and queue["type"] == "classic" and queue["consumers"]:
        raise Refusal(
            f"{place} still has {queue['consumers']} consumers although the programs of the inventory are stopped. "
            f"Stop those that make status calls unknown, and run again."
        )

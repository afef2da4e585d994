"""gRPC's interoperability tests on Google's gRPC library for Python, as the server or as the client.

    grpc_peer.py server PORT
    grpc_peer.py client ADDRESS [CASE…]    how each case ended, as one JSON object; without CASE all of them

Run by the Python of the folder that setup.sh prints. A case that fails ends with its error in words.
"""

import concurrent.futures
import json
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(sys.executable).parent.parent / "generated"))

import grpc  # noqa: E402
import testing_pb2 as messages  # noqa: E402
import testing_pb2_grpc as services  # noqa: E402
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # noqa: E402

INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
PATIENCE = 60  # seconds, for what hangs
PIECE, PIECES = 1 << 20, 100
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class TestService(services.TestServiceServicer):
    def EmptyCall(self, request, context):
        echo_metadata(context)
        return messages.Empty()

    def UnaryCall(self, request, context):
        echo_metadata(context)
        echo_status(request, context)
        return messages.SimpleResponse(payload=zeros(request.response_size))

    def StreamingOutputCall(self, request, context):
        yield from answers(request)

    def StreamingInputCall(self, requests, context):
        total = sum(len(request.payload.body) for request in requests)
        return messages.StreamingInputCallResponse(aggregated_payload_size=total)

    def FullDuplexCall(self, requests, context):
        echo_metadata(context)
        for request in requests:
            echo_status(request, context)
            yield from answers(request)


def zeros(size):
    return messages.Payload(body=bytes(size))


def answers(request):
    for parameters in request.response_parameters:
        time.sleep(parameters.interval_us / 1e6)
        yield messages.StreamingOutputCallResponse(payload=zeros(parameters.size))


def echo_metadata(context):
    received = dict(context.invocation_metadata())
    if INITIAL in received:
        context.send_initial_metadata([(INITIAL, received[INITIAL])])
    if TRAILING in received:
        context.set_trailing_metadata([(TRAILING, received[TRAILING])])


def echo_status(request, context):
    if request.response_status.code:
        codes = {code.value[0]: code for code in grpc.StatusCode}
        context.abort(codes[request.response_status.code], request.response_status.message)


def serve(port):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=80), options=OPTIONS)
    services.add_TestServiceServicer_to_server(TestService(), server)
    checks = health.HealthServicer()
    checks.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def expect(got, wanted):
    if got != wanted:
        raise AssertionError(f"{got!r} instead of {wanted!r}")


def fails(call, *codes, details=None):
    """The call has to end with one of these statuses."""
    try:
        call()
    except grpc.RpcError as error:
        if error.code() not in codes:
            raise AssertionError(f"{error.code()} instead of {codes}") from None
        if details is not None:
            expect(error.details(), details)
        return
    raise AssertionError(f"it did not end with {codes}")


def output_request(sizes, payload=b"", interval=0):
    return messages.StreamingOutputCallRequest(
        response_parameters=[messages.ResponseParameters(size=size, interval_us=interval) for size in sizes],
        payload=messages.Payload(body=payload),
    )


class Conversation:
    """A full-duplex call whose requests are sent one by one."""

    def __init__(self, service, **options):
        self.changed = threading.Condition()
        self.waiting, self.ended = [], False
        options.setdefault("timeout", PATIENCE)
        self.call = service.FullDuplexCall(self._requests(), **options)

    def _requests(self):
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.ended)
                if not self.waiting:
                    return
                request = self.waiting.pop(0)
            yield request

    def send(self, request):
        with self.changed:
            self.waiting.append(request)
            self.changed.notify()

    def end(self):
        with self.changed:
            self.ended = True
            self.changed.notify()


def empty_unary(channel, service):
    expect(service.EmptyCall(messages.Empty(), timeout=PATIENCE), messages.Empty())


def large_unary(channel, service):
    request = messages.SimpleRequest(response_size=314159, payload=zeros(271828))
    expect(service.UnaryCall(request, timeout=PATIENCE).payload.body, bytes(314159))


def client_streaming(channel, service):
    sizes = [27182, 8, 1828, 45904]
    requests = (messages.StreamingInputCallRequest(payload=zeros(size)) for size in sizes)
    answer = service.StreamingInputCall(requests, timeout=PATIENCE)
    expect(answer.aggregated_payload_size, sum(sizes))


def server_streaming(channel, service):
    sizes = [31415, 9, 2653, 58979]
    answers = service.StreamingOutputCall(output_request(sizes), timeout=PATIENCE)
    expect([len(answer.payload.body) for answer in answers], sizes)


def ping_pong(channel, service):
    conversation = Conversation(service)
    for sent, asked in [(27182, 31415), (8, 9), (1828, 2653), (45904, 58979)]:
        conversation.send(output_request([asked], bytes(sent)))
        expect(len(next(conversation.call).payload.body), asked)
    conversation.end()
    expect(list(conversation.call), [])


def empty_stream(channel, service):
    expect(list(service.FullDuplexCall(iter([]), timeout=PATIENCE)), [])


def deadline(channel, service):
    # The server would answer long after the deadline. It knows of it too, and its reset may be the first to come.
    request = output_request([1], interval=5_000_000)
    codes = grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED
    fails(lambda: list(service.StreamingOutputCall(request, timeout=0.3)), *codes)


def cancel_after_begin(channel, service):
    conversation = Conversation(service)
    conversation.call.cancel()
    fails(lambda: next(conversation.call), grpc.StatusCode.CANCELLED)
    conversation.end()


def cancel_after_first_response(channel, service):
    conversation = Conversation(service)
    conversation.send(output_request([31415], bytes(27182)))
    expect(len(next(conversation.call).payload.body), 31415)
    conversation.call.cancel()
    fails(lambda: next(conversation.call), grpc.StatusCode.CANCELLED)
    conversation.end()


def status(service, message):
    echo = messages.EchoStatus(code=2, message=message)
    request = messages.SimpleRequest(response_status=echo)
    fails(lambda: service.UnaryCall(request, timeout=PATIENCE), grpc.StatusCode.UNKNOWN, details=message)
    request = messages.StreamingOutputCallRequest(response_status=echo)
    fails(lambda: list(service.FullDuplexCall(iter([request]), timeout=PATIENCE)), grpc.StatusCode.UNKNOWN, details=message)


def status_code_and_message(channel, service):
    status(service, "test status message")


def special_status_message(channel, service):
    status(service, "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n")


def custom_metadata(channel, service):
    metadata = [(INITIAL, "test_initial_metadata_value"), (TRAILING, b"\xab\xab\xab")]
    request = messages.SimpleRequest(response_size=314159, payload=zeros(271828))
    _, call = service.UnaryCall.with_call(request, metadata=metadata, timeout=PATIENCE)
    check_metadata(call)
    call = service.FullDuplexCall(iter([output_request([314159])]), metadata=metadata, timeout=PATIENCE)
    expect(len(list(call)), 1)
    check_metadata(call)


def check_metadata(call):
    expect(dict(call.initial_metadata()).get(INITIAL), "test_initial_metadata_value")
    expect(dict(call.trailing_metadata()).get(TRAILING), b"\xab\xab\xab")


def unimplemented_method(channel, service):
    call = lambda: service.UnimplementedCall(messages.Empty(), timeout=PATIENCE)  # noqa: E731
    fails(call, grpc.StatusCode.UNIMPLEMENTED)


def unimplemented_service(channel, service):
    other = services.UnimplementedServiceStub(channel)
    call = lambda: other.UnimplementedCall(messages.Empty(), timeout=PATIENCE)  # noqa: E731
    fails(call, grpc.StatusCode.UNIMPLEMENTED)


def hundred_megabytes_up(channel, service):
    requests = (messages.StreamingInputCallRequest(payload=zeros(PIECE)) for _ in range(PIECES))
    answer = service.StreamingInputCall(requests, timeout=PATIENCE)
    expect(answer.aggregated_payload_size, PIECE * PIECES)


def hundred_megabytes_down(channel, service):
    answers = service.StreamingOutputCall(output_request([PIECE] * PIECES), timeout=PATIENCE)
    piece = bytes(PIECE)
    expect([answer.payload.body == piece for answer in answers], [True] * PIECES)


def many_at_once(channel, service):
    conversations = [Conversation(service) for _ in range(50)]
    for turn in range(1, 4):
        for number, conversation in enumerate(conversations):
            conversation.send(output_request([number * turn], bytes(number)))
        for number, conversation in enumerate(conversations):
            expect(len(next(conversation.call).payload.body), number * turn)
    for conversation in conversations:
        conversation.end()
        expect(list(conversation.call), [])


def health_check(channel, service):
    checks = health_pb2_grpc.HealthStub(channel)
    answer = checks.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
    expect(answer.status, health_pb2.HealthCheckResponse.SERVING)
    watch = checks.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
    expect(next(watch).status, health_pb2.HealthCheckResponse.SERVING)
    watch.cancel()


CASES = [
    empty_unary,
    large_unary,
    client_streaming,
    server_streaming,
    ping_pong,
    empty_stream,
    deadline,
    cancel_after_begin,
    cancel_after_first_response,
    status_code_and_message,
    special_status_message,
    custom_metadata,
    unimplemented_method,
    unimplemented_service,
    hundred_megabytes_up,
    hundred_megabytes_down,
    many_at_once,
    health_check,
]


def attempt(case, address):
    # A connection of its own; channels share theirs otherwise.
    options = [*OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=options) as channel:
        try:
            case(channel, services.TestServiceStub(channel))
        except grpc.RpcError as error:
            # Not its details, in which there are addresses.
            return error.code().name
        except AssertionError as error:
            return str(error)
        return "passed"


def main():
    mode, where, *names = sys.argv[1:]
    if mode == "server":
        serve(int(where))
    elif mode == "client":
        cases = {case.__name__: case for case in CASES}
        print(json.dumps({name: attempt(cases[name], where) for name in names or cases}))
    else:
        sys.exit(f"unknown mode {mode!r}; it is 'server' or 'client'")


if __name__ == "__main__":
    main()

"""An external-scaler client on Google's gRPC library, for what our own tonic might get wrong on both sides alike.

    grpc_client.py read   ADDRESS NAMESPACE NAME [KEY=VALUE…]    IsActive, GetMetricSpec, GetMetrics, as one JSON object
    grpc_client.py stream ADDRESS NAMESPACE NAME [KEY=VALUE…]    "open", then each StreamIsActive result as a JSON line

KEY=VALUE is the trigger's metadata.

Run by the Python of the folder that setup.sh prints. A call that fails becomes {"error": CODE, "details": TEXT}.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(sys.executable).parent.parent / "generated"))

import externalscaler_pb2 as messages  # noqa: E402
import externalscaler_pb2_grpc as services  # noqa: E402
import grpc  # noqa: E402

DEADLINE = 30  # seconds; every answer comes from memory


def attempt(call):
    try:
        return call()
    except grpc.RpcError as error:
        return {"error": error.code().name, "details": error.details()}


def read(scaler, reference):
    def specs():
        answer = scaler.GetMetricSpec(reference, timeout=DEADLINE)
        # As KEDA reads them: the float if it is above 0, else the whole number.
        return {spec.metricName: spec.targetSizeFloat or spec.targetSize for spec in answer.metricSpecs}

    def value(name):
        request = messages.GetMetricsRequest(scaledObjectRef=reference, metricName=name)
        values = scaler.GetMetrics(request, timeout=DEADLINE).metricValues
        return sum(each.metricValueFloat or each.metricValue for each in values if each.metricName == name)

    targets = attempt(specs)
    names = [] if "error" in targets else list(targets)
    return {
        "active": attempt(lambda: scaler.IsActive(reference, timeout=DEADLINE).result),
        "targets": targets,
        "values": {name: attempt(lambda name=name: value(name)) for name in names},
    }


def stream(scaler, reference):
    call = scaler.StreamIsActive(reference)
    call.initial_metadata()
    print('"open"', flush=True)
    for answer in call:
        print(json.dumps(answer.result), flush=True)


def main():
    mode, address, namespace, name, *metadata = sys.argv[1:]
    with grpc.insecure_channel(address) as channel:
        scaler = services.ExternalScalerStub(channel)
        metadata = dict(pair.split("=", 1) for pair in metadata)
        reference = messages.ScaledObjectRef(name=name, namespace=namespace, scalerMetadata=metadata)
        if mode == "read":
            print(json.dumps(read(scaler, reference)))
        elif mode == "stream":
            stream(scaler, reference)
        else:
            sys.exit(f"unknown mode {mode!r}; it is 'read' or 'stream'")


if __name__ == "__main__":
    main()

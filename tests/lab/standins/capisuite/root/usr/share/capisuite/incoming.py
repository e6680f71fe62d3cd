# Stands in for CapiSuite's script in tests. Nobody calls.


def callIncoming(call, service, call_from, call_to):  # noqa: N802, N803
    pass

"""What the SDK and the server share: the protocol's messages (`v1`, generated) and its limits."""

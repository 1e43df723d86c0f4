"""What the server prepares: workloads, strong models, and device models made with torch, exported to ONNX and quantized."""

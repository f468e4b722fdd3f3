"""Parts of addresses that try to lead out of a folder, or name no file."""

OUTSIDE = (
    "..", "%2e%2e", ".%2e", "..%2f..", "..%5c..", "%2e%2e%2f%2e%2e%2foutside", "%252e%252e",
    "..%c0%af..", "%c0%ae%c0%ae", "%ef%bc%8e%ef%bc%8e", "..%00", "%00", "%ff", "%2fetc", "%2Ftmp",
    "C%3a%5cWindows", "..%252foutside", "%2e", "CON", "nul.txt", "outside", "%20", "x" * 300,
)  # fmt: skip

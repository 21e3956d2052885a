"""What is a container? Images unpacked layer by layer, namespaces and control groups, and what they cost."""

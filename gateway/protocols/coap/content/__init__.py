"""What a payload is: Content-Formats, envelopes, SenML packs.

formats            Content-Format and content type
translate, cbor    envelopes with all of a message, and CBOR from clients
senml, splitting   packs, and the rules by which they are split
"""

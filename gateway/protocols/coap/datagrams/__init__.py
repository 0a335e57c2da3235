"""Datagrams: sockets and peers, the message layer of RFC 7252, whose an address is, and DTLS.

udp                       sockets, and the peers behind them
messages                  duplicates, acknowledgements, retransmission
guard                     whose an address is (Echo), and how much it may send
dtls, dtls_*              the same encrypted: associations instead of addresses
"""

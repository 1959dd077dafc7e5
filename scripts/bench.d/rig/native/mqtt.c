#define _GNU_SOURCE
#include "mqtt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_SIZE = 256 * 1024, SUBSCRIBE_ID = 65535 };

void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

void *make(size_t size) {
    void *memory = calloc(1, size);
    if (!memory) die("out of memory");
    return memory;
}

/* -- bytes ------------------------------------------------------------------------------------------------------- */

/* Room for `size` bytes more at the end; moves what is live to the front, or grows. */
static unsigned char *room(struct buffer *b, size_t size) {
    if (b->begin == b->end) b->begin = b->end = 0;
    if (b->end + size > b->size) {
        memmove(b->bytes, b->bytes + b->begin, b->end - b->begin);
        b->end -= b->begin;
        b->begin = 0;
    }
    if (b->end + size > b->size) {
        b->size = 2 * (b->end + size);
        b->bytes = realloc(b->bytes, b->size);
        if (!b->bytes) die("out of memory");
    }
    return b->bytes + b->end;
}

static unsigned char *put_bytes(unsigned char *at, const void *bytes, size_t size) {
    memcpy(at, bytes, size);
    return at + size;
}

static unsigned char *put_u16(unsigned char *at, size_t value) {
    *at++ = (unsigned char)(value >> 8);
    *at++ = (unsigned char)value;
    return at;
}

static unsigned char *put_varint(unsigned char *at, size_t value) {
    while (value >= 0x80) {
        *at++ = (unsigned char)(value | 0x80);
        value >>= 7;
    }
    *at++ = (unsigned char)value;
    return at;
}

static size_t get_u16(const unsigned char *at) { return (size_t)at[0] << 8 | at[1]; }

/* Bytes that a variable byte integer takes, 0 if some of it is still to come. */
static size_t get_varint(const unsigned char *at, size_t have, size_t *value) {
    *value = 0;
    for (size_t n = 0; n < 4 && n < have; n++) {
        *value |= (size_t)(at[n] & 0x7F) << (7 * n);
        if (at[n] < 0x80) return n + 1;
    }
    if (have >= 4) die("the broker sent a length of more than four bytes");
    return 0;
}

/* -- the handshake, blocking --------------------------------------------------------------------------------------- */

static void send_all(struct link *link, unsigned char *from, unsigned char *to) {
    for (ssize_t sent; from < to; from += sent)
        if ((sent = write(link->fd, from, (size_t)(to - from))) <= 0) die("the broker hung up");
}

/* Wait for one whole packet of type `type` and return its body. */
static const unsigned char *await(struct link *link, unsigned type, size_t *size) {
    struct buffer *in = &link->in;
    for (;;) {
        size_t have = in->end - in->begin, used = 0;
        unsigned char *at = in->bytes + in->begin;
        if (have >= 2 && (used = get_varint(at + 1, have - 1, size)) && have >= 1 + used + *size) {
            if (at[0] >> 4 != type) die("the broker sent packet type %u, not %u", at[0] >> 4, type);
            in->begin += 1 + used + *size;
            return at + 1 + used;
        }
        ssize_t got = read(link->fd, room(in, 4096), 4096);
        if (got <= 0) die("the broker hung up before it took us");
        in->end += (size_t)got;
    }
}

static void say_connect(struct link *link, const char *client) {
    unsigned char packet[256], *at = packet;
    size_t length = strlen(client);
    if (length > 100) die("client id too long");
    *at++ = 0x10;
    at = put_varint(at, 10 + 1 + 2 + length);
    at = put_bytes(at, "\0\4MQTT\5\2\0\0", 10); /* version 5, clean start, no keep-alive */
    *at++ = 0;                                  /* no properties: our own window is the largest, 65 535 */
    at = put_u16(at, length);
    at = put_bytes(at, client, length);
    send_all(link, packet, at);
}

/* Read the broker's window out of CONNACK; without one it is the largest. */
static void hear_connack(struct link *link) {
    size_t size, length;
    const unsigned char *at = await(link, 2, &size), *end = at + size;
    if (size < 3 || at[1]) die("the broker refused the connection: reason 0x%02X", size < 2 ? 0 : at[1]);
    at += 2;
    at += get_varint(at, (size_t)(end - at), &length);
    link->window = 65535;
    while (at < end) {
        switch (*at++) {
        case 0x21: link->window = (uint32_t)get_u16(at); /* fall through */
        case 0x22: case 0x13: at += 2; break;
        case 0x24: case 0x25: case 0x28: case 0x29: case 0x2A: at += 1; break;
        case 0x11: case 0x27: at += 4; break;
        case 0x26: at += 2 + get_u16(at); /* fall through */
        case 0x12: case 0x15: case 0x16: case 0x1A: case 0x1C: case 0x1F: at += 2 + get_u16(at); break;
        default: die("the broker sent a CONNACK property unknown here");
        }
    }
}

static void subscribe(struct link *link, const char *filter) {
    unsigned char packet[512], *at = packet;
    size_t length = strlen(filter), size;
    if (length > 400) die("topic filter too long");
    *at++ = 0x82;
    at = put_varint(at, 2 + 1 + 2 + length + 1);
    at = put_u16(at, SUBSCRIBE_ID);
    *at++ = 0;
    at = put_u16(at, length);
    at = put_bytes(at, filter, length);
    *at++ = 0x21; /* QoS 1, retained messages: none */
    send_all(link, packet, at);
    const unsigned char *body = await(link, 9, &size);
    if (body[size - 1] != 1) die("the broker refused the subscription to %s: reason 0x%02X", filter, body[size - 1]);
}

void link_open(struct link *link, int poll, void *owner, uint16_t port, const char *client, const char *filter) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    link->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (link->fd < 0 || connect(link->fd, (struct sockaddr *)&address, sizeof address))
        die("cannot connect to 127.0.0.1:%u: %s", port, strerror(errno));
    int on = 1;
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    link->poll = poll;
    link->owner = owner;
    say_connect(link, client);
    hear_connack(link);
    subscribe(link, filter);
    fcntl(link->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = link};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, link->fd, &event)) die("epoll: %s", strerror(errno));
}

/* -- in -------------------------------------------------------------------------------------------------------------- */

void link_read(struct link *link) {
    ssize_t got = read(link->fd, room(&link->in, READ_SIZE), READ_SIZE);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) die("the broker hung up");
    link->in.end += (size_t)got;
}

/* The broker took one of ours, or will not: then no reply will ever come, and the figures would be worth nothing. */
static void settled(struct link *link, const unsigned char *body, size_t size) {
    size_t id = get_u16(body);
    if (size > 2 && body[2] >= 0x80) die("the broker refused a message: reason 0x%02X", body[2]);
    if (!(link->used_ids[id / 8] & 1 << id % 8)) die("the broker acknowledged what was not sent");
    link->used_ids[id / 8] &= (uint8_t) ~(1 << id % 8);
    link->unsettled--;
}

/* Find the correlation data; of the rest only the sizes matter. */
static void properties(const unsigned char *at, const unsigned char *end, struct message *m) {
    size_t ignored;
    while (at < end) {
        switch (*at++) {
        case 0x09:
            m->correlation_size = get_u16(at);
            m->correlation = at + 2;
            at += 2 + m->correlation_size;
            break;
        case 0x01: at += 1; break;
        case 0x02: at += 4; break;
        case 0x23: at += 2; break;
        case 0x0B: at += get_varint(at, (size_t)(end - at), &ignored); break;
        case 0x26: at += 2 + get_u16(at); /* fall through */
        case 0x03: case 0x08: at += 2 + get_u16(at); break;
        default: die("the broker sent a PUBLISH property unknown here");
        }
    }
}

static void parse_publish(unsigned flags, const unsigned char *at, size_t size, struct message *m) {
    const unsigned char *end = at + size;
    size_t length;
    memset(m, 0, sizeof *m);
    m->topic_size = get_u16(at);
    m->topic = at + 2;
    at += 2 + m->topic_size;
    if (flags & 2) {
        m->id = (uint16_t)get_u16(at);
        at += 2;
    }
    at += get_varint(at, (size_t)(end - at), &length);
    properties(at, at + length, m);
    m->payload = at + length;
    if (m->payload > end) die("the broker sent a malformed PUBLISH");
    m->payload_size = (size_t)(end - m->payload);
}

enum packet link_next(struct link *link, struct message *message) {
    struct buffer *in = &link->in;
    const unsigned char *at = in->bytes + in->begin;
    size_t have = in->end - in->begin, size, used;
    if (have < 2 || !(used = get_varint(at + 1, have - 1, &size)) || have < 1 + used + size) return NOTHING;
    in->begin += 1 + used + size;
    switch (at[0] >> 4) {
    case 3: parse_publish(at[0] & 0xF, at + 1 + used, size, message); return PUBLISH;
    case 4: settled(link, at + 1 + used, size); return OTHER;
    case 14: die("the broker disconnected us: reason 0x%02X", size ? at[1 + used] : 0);
    default: return OTHER;
    }
}

/* -- out ------------------------------------------------------------------------------------------------------------- */

void link_acknowledge(struct link *link, uint16_t id) {
    if (!id) return;
    unsigned char *at = room(&link->out, 4);
    at = put_bytes(at, "\x40\2", 2);
    put_u16(at, id);
    link->out.end += 4;
}

/* A packet identifier that is free: PUBACKs need not come in order. */
static uint16_t take_id(struct link *link) {
    uint16_t id = link->last_id;
    do id++; while (!id || link->used_ids[id / 8] & 1 << id % 8);
    link->used_ids[id / 8] |= (uint8_t)(1 << id % 8);
    link->unsettled++;
    return link->last_id = id;
}

bool link_publish(struct link *link, const char *topic, size_t topic_size, const void *correlation,
                  size_t correlation_size, const void *payload, size_t payload_size) {
    if (link->unsettled >= link->window || link->unsettled >= 65535) return false;
    size_t extra = correlation_size ? 3 + correlation_size : 0;
    if (extra > 127) die("correlation data too long");
    size_t size = 2 + topic_size + 2 + 1 + extra + payload_size;
    unsigned char *start = room(&link->out, size + 5), *at = start;
    *at++ = 0x32;
    at = put_varint(at, size);
    at = put_u16(at, topic_size);
    at = put_bytes(at, topic, topic_size);
    at = put_u16(at, take_id(link));
    *at++ = (unsigned char)extra;
    if (extra) {
        *at++ = 0x09;
        at = put_u16(at, correlation_size);
        at = put_bytes(at, correlation, correlation_size);
    }
    at = put_bytes(at, payload, payload_size);
    link->out.end += (size_t)(at - start);
    return true;
}

void link_flush(struct link *link) {
    struct buffer *out = &link->out;
    while (out->begin < out->end) {
        ssize_t sent = write(link->fd, out->bytes + out->begin, out->end - out->begin);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno != EAGAIN) die("the broker hung up: %s", strerror(errno));
        if (sent < 0) break;
        out->begin += (size_t)sent;
    }
    bool wants = out->begin < out->end;
    if (wants != link->wants_write) {
        struct epoll_event event = {.events = EPOLLIN | (wants ? EPOLLOUT : 0), .data.ptr = link};
        epoll_ctl(link->poll, EPOLL_CTL_MOD, link->fd, &event);
        link->wants_write = wants;
    }
}

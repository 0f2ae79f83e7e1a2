/* Load generator for SMTP servers: one thread, epoll, every reply checked.
 *
 * What it knows: the commands of RFC 5321, the rules of pipelining (RFC 2920 3.1), and how to count. What it must not know: which server it talks to.
 *
 * A connection plays a script. A step is octets to send and the codes of the replies to hear before the next step, so lockstep is one command a
 * step, and pipelining is several. The first reply that is not the expected one ends the run with a sentence on stderr and exit status 1.
 * All octets pass through put() and get(), where TLS is when it is asked for (compiled with -DWITH_TLS, against OpenSSL).
 *
 * Prints one line of JSON on stdout. With --idle it first prints {"ready": N}, and goes on when its stdin ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum { EVENTS = 256, HELD = 4096, OPENING = 64, PATIENCE = 60000 /* milliseconds without an event */ };

struct step {
    const char *name;        /* for people */
    char *data;              /* what is sent */
    size_t length;
    short *codes;            /* the replies that must come */
    int replies;
    bool opens;              /* begins a transaction: holds its MAIL */
    bool ends;               /* its first reply is the final one of a message */
    struct step *next;       /* NULL: choose() decides */
};

struct connection {
    int fd, number;
    struct step *step;
    size_t sent;             /* of step->data */
    int answered;            /* of step->replies */
    int code;                /* of a reply of several lines that is not complete, else 0 */
    bool full;               /* the kernel takes no more: EPOLLOUT is asked for */
    bool farewell;           /* 221 was heard */
    double begun, begunNext; /* when MAIL of this transaction, and of the one behind it, was sent */
    size_t held;
#ifdef WITH_TLS
    SSL *tls;
#endif
    char input[HELD];
};

static struct {
    const char *host;
    int port, connections, recipients, stuff, sources;
    size_t size;
    long messages;           /* 0: until the time is over */
    double seconds;
    bool pipelined, reconnect, idle, tls;
} options = {.host = "127.0.0.1", .connections = 1, .recipients = 1, .sources = 1, .size = 1024};

static struct step greeting, hello, quit, *first, *body, *bodyAndNext;
static struct connection *all;
static int poller, opened, ready, closed;
static bool started, pipelining;
static long claimed, finished, dialled;
static double startTime, lastTime;
static uint32_t *latencies; /* microseconds */
static size_t latencyRoom;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

__attribute__((noreturn)) static void failAt(const struct connection *c, const char *what)
{
    fail("connection %d, %ld messages done, step %s, reply %d of %d: %s", c->number, finished, c->step->name, c->answered + 1, c->step->replies, what);
}

/* ---- the script ---- */

static struct step *makeStep(const char *name)
{
    struct step *step = calloc(1, sizeof *step);
    if (!step)
        fail("no memory");
    step->name = name;
    return step;
}

static void addData(struct step *step, const char *data, size_t length)
{
    step->data = realloc(step->data, step->length + length);
    if (!step->data)
        fail("no memory");
    memcpy(step->data + step->length, data, length);
    step->length += length;
}

static void addCode(struct step *step, int code)
{
    step->codes = realloc(step->codes, sizeof *step->codes * (size_t)(step->replies + 1));
    if (!step->codes)
        fail("no memory");
    step->codes[step->replies++] = (short)code;
}

static void addCommand(struct step *step, const char *line, int code)
{
    addData(step, line, strlen(line));
    addCode(step, code);
}

/* The body of a message: options.size octets before stuffing, every options.stuff-th line begins with a dot. */
static void addBody(struct step *step)
{
    static const char header[] = "From: <sender@load.test>\r\nTo: <user0@load.test>\r\nSubject: load\r\nMessage-ID: <1@load.test>\r\n\r\n";
    static const char text[] = "The quick brown fox jumps over the lazy dog, and the dog does not even mind\r\n";
    const size_t line = sizeof text - 1;
    size_t left = options.size > sizeof header + 1 ? options.size - (sizeof header - 1) : 2;
    char *buffer = malloc(left * 2 + 8), *p = buffer;
    if (!buffer)
        fail("no memory");
    for (long number = 1; left > 0; number++) {
        /* The last line is cut to the size; it is never shorter than its CRLF. */
        size_t length = left >= line + 2 || left == line ? line : left > line ? line - 2 : left;
        memcpy(p, text + (line - length), length);
        if (length > 2 && options.stuff && number % options.stuff == 0) {
            p[0] = '.';
            memmove(p + 1, p, length);
            p++;
        }
        p += length;
        left -= length;
    }
    memcpy(p, ".\r\n", 3);
    addData(step, header, sizeof header - 1);
    addData(step, buffer, (size_t)(p + 3 - buffer));
    addCode(step, 250);
    free(buffer);
}

/* MAIL, RCPT and DATA, all in `step`, or a step for each command behind it. Returns the last step. */
static struct step *addEnvelope(struct step *step, bool together)
{
    char line[64];
    step->opens = true;
    addCommand(step, "MAIL FROM:<sender@load.test>\r\n", 250);
    for (int i = 0; i < options.recipients; i++) {
        if (!together)
            step = step->next = makeStep("RCPT");
        snprintf(line, sizeof line, "RCPT TO:<user%d@load.test>\r\n", i);
        addCommand(step, line, 250);
    }
    if (!together)
        step = step->next = makeStep("DATA");
    addCommand(step, "DATA\r\n", 354);
    return step;
}

static void makeScript(void)
{
    greeting.name = "greeting";
    addCode(&greeting, 220);
    greeting.next = &hello;
    hello.name = "EHLO";
    addCommand(&hello, "EHLO load.test\r\n", 250);
    quit.name = "QUIT";
    addCommand(&quit, "QUIT\r\n", 221);
    body = makeStep("body");
    body->ends = true;
    addBody(body);
    if (options.pipelined) {
        first = makeStep("MAIL to DATA");
        addEnvelope(first, true);
        /* RFC 2920 3.1: DATA ends a group; the next group may leave together with the body. */
        bodyAndNext = makeStep("body, MAIL to DATA");
        bodyAndNext->ends = true;
        addBody(bodyAndNext);
        addEnvelope(bodyAndNext, true);
    } else {
        first = makeStep("MAIL");
        addEnvelope(first, false)->next = body;
    }
}

/* ---- playing it ---- */

static void watch(struct connection *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

#ifdef WITH_TLS
static SSL_CTX *context;

/* What an SSL function answered, as send() and recv() would say it. */
static ssize_t settled(struct connection *c, int n)
{
    switch (SSL_get_error(c->tls, n)) {
    case SSL_ERROR_NONE:
        return n;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        return errno ? -1 : 0;
    default:
        failAt(c, ERR_reason_error_string(ERR_get_error()));
    }
}
#endif

static ssize_t put(struct connection *c, const char *data, size_t length)
{
#ifdef WITH_TLS
    if (c->tls)
        return settled(c, SSL_write(c->tls, data, length > 1 << 20 ? 1 << 20 : (int)length));
#endif
    return send(c->fd, data, length, MSG_NOSIGNAL);
}

static ssize_t get(struct connection *c, char *data, size_t room)
{
#ifdef WITH_TLS
    if (c->tls)
        return settled(c, SSL_read(c->tls, data, (int)room));
#endif
    return recv(c->fd, data, room, 0);
}

/* TLS begins with the connection. Nobody looks at the certificate: this measures, it does not trust. */
static void secure(struct connection *c)
{
#ifdef WITH_TLS
    if (!context && !(context = SSL_CTX_new(TLS_client_method())))
        fail("OpenSSL cannot be used");
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (!(c->tls = SSL_new(context)) || !SSL_set_fd(c->tls, c->fd))
        fail("no memory");
    SSL_set_connect_state(c->tls);
#else
    (void)c;
    fail("compiled without TLS: the headers of OpenSSL were not there");
#endif
}

static void transmit(struct connection *c)
{
    while (c->sent < c->step->length) {
        ssize_t n = put(c, c->step->data + c->sent, c->step->length - c->sent);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            if (!c->full)
                watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            c->full = true;
            return;
        }
        if (n < 0)
            failAt(c, strerror(errno));
        c->sent += (size_t)n;
    }
    if (c->full)
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
    c->full = false;
}

static void begin(struct connection *c, struct step *step)
{
    c->step = step;
    c->sent = 0;
    c->answered = 0;
    if (step->opens && !options.reconnect)
        c->begunNext = now();
    if (step == first && !options.reconnect)
        c->begun = c->begunNext;
    transmit(c);
}

/* May one more transaction begin? */
static bool claim(void)
{
    if ((options.messages && claimed == options.messages) || (options.seconds > 0 && now() - startTime >= options.seconds))
        return false;
    claimed++;
    return true;
}

/* The step after one that has no fixed successor. */
static void choose(struct connection *c)
{
    if (options.pipelined && c->step != &hello && c->step != body)
        begin(c, claim() ? bodyAndNext : body);
    else if (options.pipelined && c->step == body)
        begin(c, &quit);
    else if (options.reconnect)
        begin(c, c->step == &hello ? first : &quit);
    else
        begin(c, claim() ? first : &quit);
}

static void messageDone(struct connection *c)
{
    lastTime = now();
    if ((size_t)finished == latencyRoom) {
        latencyRoom = latencyRoom ? latencyRoom * 2 : 4096;
        latencies = realloc(latencies, sizeof *latencies * latencyRoom);
        if (!latencies)
            fail("no memory");
    }
    latencies[finished++] = (uint32_t)((lastTime - c->begun) * 1e6);
    c->begun = c->begunNext;
}

/* Everyone has said hello: for idle connections the owner decides when to go on, all others begin at once. */
static void startAll(void)
{
    started = true;
    startTime = now();
    if (options.idle) {
        char ignored;
        printf("{\"ready\": %d}\n", ready);
        fflush(stdout);
        while (read(STDIN_FILENO, &ignored, 1) > 0)
            ;
        lastTime = now();
        for (int i = 0; i < options.connections; i++)
            begin(&all[i], &quit);
        return;
    }
    for (int i = 0; i < options.connections; i++)
        choose(&all[i]);
}

static void stepDone(struct connection *c)
{
    if (c->step == &quit)
        c->farewell = true;
    else if (c->step->next)
        begin(c, c->step->next);
    else if (c->step == &hello && !options.reconnect)
        ready++; /* and waits for startAll() */
    else
        choose(c);
}

/* One line of a reply, without its line end. RFC 5321 4.2: three digits, then a hyphen if more lines follow; all have the same code. */
static void replyLine(struct connection *c, char *line)
{
    int code = 0, class = 0, subject, detail;
    if (sscanf(line, "%3d", &code) != 1 || code < 200 || (line[3] && line[3] != ' ' && line[3] != '-') || (c->code && c->code != code))
        failAt(c, line);
    if (c->sent < c->step->length && c->answered + 1 == c->step->replies)
        failAt(c, "the last reply came before everything was sent");
    if (code != c->step->codes[c->answered])
        failAt(c, line);
    /* RFC 2034 4: an enhanced status code is of the class of the code. */
    if (line[3] && c->step != &greeting && c->step != &hello && sscanf(line + 4, "%1d.%3d.%3d ", &class, &subject, &detail) == 3 && class != code / 100)
        failAt(c, line);
    if (c->step == &hello && strcasecmp(line + 4, "PIPELINING") == 0)
        pipelining = true;
    c->code = line[3] == '-' ? code : 0;
    if (c->code)
        return;
    if (c->step->ends && c->answered == 0)
        messageDone(c);
    c->answered++;
}

/* Everything that was read: whole lines are checked, the rest is kept. */
static void replies(struct connection *c)
{
    char *line = c->input, *end;
    size_t left = c->held;
    while ((end = memchr(line, '\n', left)) != NULL) {
        if (end == line || end[-1] != '\r')
            failAt(c, "a reply line that does not end in CRLF");
        end[-1] = '\0';
        left -= (size_t)(end + 1 - line);
        if (c->answered == c->step->replies)
            failAt(c, "it came, and nothing was sent for it");
        replyLine(c, line);
        line = end + 1;
        if (c->answered == c->step->replies) {
            /* Nothing may follow: the server cannot answer what was not sent. */
            if (left)
                failAt(c, "it came, and nothing was sent for it");
            c->held = 0;
            stepDone(c);
            return;
        }
    }
    if (left == HELD)
        failAt(c, "a reply line without an end");
    memmove(c->input, line, left);
    c->held = left;
}

static void dial(struct connection *c)
{
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        fail("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (options.sources > 1) {
        /* Many client addresses, all of them loopback: servers bound what one address may open, and each address has its own ports. */
        struct sockaddr_in own = {.sin_family = AF_INET};
        long source = dialled++ % options.sources;
        own.sin_addr.s_addr = htonl(0x7f010000u + (uint32_t)(source / 250 * 256 + source % 250 + 1));
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
        if (bind(c->fd, (struct sockaddr *)&own, sizeof own) < 0)
            fail("bind: %s", strerror(errno));
    }
    if (inet_pton(AF_INET, options.host, &server.sin_addr) != 1)
        fail("%s is not an IPv4 address", options.host);
    c->begun = now();
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    if (options.tls)
        secure(c);
    c->held = 0;
    c->code = 0;
    c->farewell = c->full = false;
    c->step = &greeting;
    c->sent = 0;
    c->answered = 0;
    /* TLS is begun by the client, once it is connected. */
    c->full = options.tls;
    watch(c, EPOLL_CTL_ADD, options.tls ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* The server closed: after 221 it must. */
static void gone(struct connection *c, const char *why)
{
    if (!c->farewell)
        failAt(c, why);
#ifdef WITH_TLS
    SSL_free(c->tls);
    c->tls = NULL;
#endif
    close(c->fd);
    c->fd = -1;
    if (options.reconnect && claim())
        dial(c);
    else
        closed++;
}

static void hear(struct connection *c)
{
    for (;;) {
        size_t room = HELD - c->held;
        ssize_t n = get(c, c->input + c->held, room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n <= 0) {
            gone(c, n ? strerror(errno) : "the server closed the connection");
            return;
        }
        c->held += (size_t)n;
        replies(c);
        /* A short read emptied the socket; what TLS holds back only a further read tells. */
        if ((size_t)n < room && !c->farewell && !options.tls)
            return;
    }
}

/* Opens what is still missing, a few at a time so that the server's backlog holds them; begins when all are there. */
static void openMore(void)
{
    if (started)
        return;
    if (options.reconnect) {
        for (startTime = now(), started = true; opened < options.connections; opened++) {
            if (claim())
                dial(&all[opened]);
            else
                closed++;
        }
        return;
    }
    while (opened < options.connections && opened - ready < OPENING)
        dial(&all[opened++]);
    if (ready == options.connections)
        startAll();
}

static void run(void)
{
    struct epoll_event events[EVENTS];
    poller = epoll_create1(EPOLL_CLOEXEC);
    all = calloc((size_t)options.connections, sizeof *all);
    if (poller < 0 || !all)
        fail("no memory");
    for (int i = 0; i < options.connections; i++)
        all[i].number = i;
    for (openMore(); closed < options.connections; openMore()) {
        int count = epoll_wait(poller, events, EVENTS, PATIENCE);
        if (count == 0)
            fail("the server said nothing for %d seconds, after %ld messages", PATIENCE / 1000, finished);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT)
                transmit(c);
            if (events[i].events & ~(uint32_t)EPOLLOUT || options.tls)
                hear(c);
            /* What TLS could not write before it had read. */
            if (options.tls && c->fd >= 0 && c->sent < c->step->length)
                transmit(c);
        }
    }
}

/* ---- the outside ---- */

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double quantile(double q)
{
    return finished ? latencies[(size_t)(q * (double)(finished - 1))] / 1e3 : 0;
}

static void report(void)
{
    double elapsed = lastTime - startTime;
    qsort(latencies, (size_t)finished, sizeof *latencies, ascending);
    if (elapsed <= 0)
        elapsed = 1e-9;
    printf("{\"messages\": %ld, \"connections\": %d, \"pipelining\": %s, \"seconds\": %.6f, \"messagesPerSecond\": %.1f, \"megabytesPerSecond\": %.3f, "
           "\"p50\": %.3f, \"p99\": %.3f}\n",
           finished, options.connections, pipelining ? "true" : "false", elapsed, (double)finished / elapsed,
           (double)finished * (double)options.size / elapsed / 1e6, quantile(0.5), quantile(0.99));
}

static void usage(void)
{
    fail("usage: load --port N [--host ADDRESS] (--messages N | --seconds S | --idle) [--connections N] [--size OCTETS] [--recipients N]\n"
         "       [--pipelined] [--reconnect] [--stuff N (every Nth line begins with a dot)] [--sources N (client addresses)] [--tls]");
}

static void readOptions(int count, char **arguments)
{
    static const struct option names[] = {
        {"host", 1, 0, 'h'},  {"port", 1, 0, 'p'},  {"messages", 1, 0, 'm'}, {"seconds", 1, 0, 's'},   {"connections", 1, 0, 'c'}, {"size", 1, 0, 'b'},
        {"recipients", 1, 0, 'r'}, {"stuff", 1, 0, 'd'}, {"sources", 1, 0, 'a'},  {"pipelined", 0, 0, 'P'}, {"reconnect", 0, 0, 'R'},   {"idle", 0, 0, 'I'},
        {"tls", 0, 0, 'T'},   {0}};
    int option;
    while ((option = getopt_long(count, arguments, "", names, NULL)) != -1) {
        switch (option) {
        case 'h': options.host = optarg; break;
        case 'p': options.port = atoi(optarg); break;
        case 'm': options.messages = atol(optarg); break;
        case 's': options.seconds = atof(optarg); break;
        case 'c': options.connections = atoi(optarg); break;
        case 'b': options.size = (size_t)atol(optarg); break;
        case 'r': options.recipients = atoi(optarg); break;
        case 'd': options.stuff = atoi(optarg); break;
        case 'a': options.sources = atoi(optarg); break;
        case 'P': options.pipelined = true; break;
        case 'R': options.reconnect = true; break;
        case 'I': options.idle = true; break;
        case 'T': options.tls = true; break;
        default: usage();
        }
    }
    if (options.port < 1 || options.connections < 1 || options.recipients < 1 || options.sources < 1 || options.size < 128 || options.messages < 0 ||
        (options.pipelined && options.reconnect) || (!options.idle && options.messages == 0 && options.seconds <= 0))
        usage();
}

int main(int count, char **arguments)
{
    struct rlimit files;
    readOptions(count, arguments);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_max < (rlim_t)options.connections + 16)
        fail("%d connections need more open files than the %lu that are allowed", options.connections, (unsigned long)files.rlim_max);
    makeScript();
    run();
    report();
    return 0;
}

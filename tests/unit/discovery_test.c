/* discovery_test.c - the file of nodes, and what the machine says about addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "cluster/discovery.h"
#include "support/live_memory.h"

#define CAPABLE "\"device_capabilities\":{\"memory\":1024}"
#define PEER(address, port) "{\"address\":\"" address "\",\"port\":" port "," CAPABLE "}"

static enum rg_code parse(struct rg_discovery *d, const char *text, struct rg_err *err)
{
    return rg_discovery_parse(d, text, strlen(text), "ring.json", err);
}

/* One clear line: begins with the file, says `part`, and is BAD_DATA. */
static void expect_refused(const char *text, const char *part)
{
    struct rg_discovery d;
    struct rg_err err = {.code = RG_OK};

    if (parse(&d, text, &err) != RG_E_BAD_DATA)
        fail_msg("accepted, or another code: %s", text);
    if (strncmp(err.message, "ring.json: ", 11) != 0 || !strstr(err.message, part) ||
        strchr(err.message, '\n'))
        fail_msg("%s\nsaid: %s\nwanted: %s", text, err.message, part);
    assert_null(d.peers);
    assert_int_equal(d.n, 0);
}

/* With `member` in the place of one good member of a peer. */
static void expect_peer_refused(const char *address, const char *port, const char *capabilities,
                                const char *part)
{
    char text[512];
    const char *const members[] = {address, port, capabilities};
    size_t n = (size_t)snprintf(text, sizeof text, "{\"peers\":{\"node-a\":{\"x\":1");

    for (size_t i = 0; i < 3; i++)
        if (members[i][0] != '\0')
            n += (size_t)snprintf(text + n, sizeof text - n, ",%s", members[i]);
    (void)snprintf(text + n, sizeof text - n, "}}}");
    expect_refused(text, part);
    expect_refused(text, "node-a");
}

#define GOOD_ADDRESS "\"address\":\"10.0.2.1\""
#define GOOD_PORT "\"port\":50051"

static void the_example_file_is_the_two_macs(void **state)
{
    struct rg_discovery d;
    struct rg_err err;

    (void)state;
    assert_int_equal(rg_discovery_read(&d, RENGA_SOURCE_DIR "/config/discovery.json", &err), RG_OK);
    assert_int_equal(d.n, 2);
    assert_string_equal(d.peers[0].id, "m2-studio-main");
    assert_string_equal(d.peers[0].address, "10.0.2.1");
    assert_int_equal(d.peers[0].port, 50051);
    assert_string_equal(d.peers[0].chip, "Apple M2 Ultra");
    assert_true(d.peers[0].memory_bytes == UINT64_C(196608) << 20);
    assert_string_equal(d.peers[1].id, "m3-studio-worker");
    assert_true(d.peers[1].memory_bytes == UINT64_C(524288) << 20);
    assert_int_equal(rg_discovery_find(&d, "m3-studio-worker"), 1);
    assert_int_equal(rg_discovery_find(&d, "m3"), -1);
    rg_discovery_free(&d);
}

static void the_head_comes_first_and_the_others_keep_their_order(void **state)
{
    struct rg_discovery d;
    struct rg_err err;
    const char *text = "{\"peers\":{\"a\":" PEER("10.0.0.1", "1") ",\"b\":" PEER(
        "10.0.0.2", "2") ",\"c\":{\"head\":true,\"address\":\"10.0.0.3\",\"port\":3," CAPABLE "},"
                         "\"d\":" PEER("10.0.0.4", "4") "}}";

    (void)state;
    assert_int_equal(parse(&d, text, &err), RG_OK);
    assert_int_equal(d.n, 4);
    assert_string_equal(d.peers[0].id, "c");
    assert_string_equal(d.peers[1].id, "a");
    assert_string_equal(d.peers[2].id, "b");
    assert_string_equal(d.peers[3].id, "d");
    assert_null(d.peers[0].chip);
    rg_discovery_free(&d);
}

static void keys_of_other_programs_are_allowed(void **state)
{
    struct rg_discovery d;
    struct rg_err err;
    const char *text =
        "{\"v\":[1],\"peers\":{\"a\":{\"head\":false,\"note\":{\"x\":[null]},\"port\":65535,"
        "\"address\":\"fe80::1%bridge0\",\"device_capabilities\":{\"memory\":1.0,\"chip\":\"M4\","
        "\"gpu\":{},\"flops\":{\"fp32\":0,\"bf16\":\"?\"}}}}}";

    (void)state;
    assert_int_equal(parse(&d, text, &err), RG_OK);
    assert_string_equal(d.peers[0].address, "fe80::1%bridge0");
    assert_true(d.peers[0].memory_bytes == UINT64_C(1) << 20);
    rg_discovery_free(&d);
}

static void what_is_no_ring_is_refused(void **state)
{
    (void)state;
    expect_refused("", "JSON");
    expect_refused("{", "JSON");
    expect_refused("[]", "an array");
    expect_refused("{}", "\"peers\" is missing");
    expect_refused("{\"peers\":[]}", "\"peers\" is an array");
    expect_refused("{\"peers\":null}", "\"peers\" is null");
    expect_refused("{\"peers\":{}}", "empty");
    expect_refused("{\"peers\":{}} x", "JSON");
    expect_refused("{\"peers\":{\"a\":1}}", "a number");
}

static void a_wrong_id_is_refused(void **state)
{
    char text[512], id[RG_LIMIT_NODE_ID_BYTES + 2];
    struct rg_discovery d;
    struct rg_err err;

    (void)state;
    expect_refused("{\"peers\":{\"\":" PEER("h", "1") "}}", "id of 1 to 128");
    expect_refused("{\"peers\":{\"a b\":" PEER("h", "1") "}}", "peer \"a b\"");
    expect_refused("{\"peers\":{\"a/b\":" PEER("h", "1") "}}", "peer \"a/b\"");
    expect_refused("{\"peers\":{\"\\u00e9\":" PEER("h", "1") "}}", "id of 1 to 128");
    expect_refused("{\"peers\":{\"a\\nb\":" PEER("h", "1") "}}", "peer \"?\"");
    memset(id, 'a', sizeof id);
    id[RG_LIMIT_NODE_ID_BYTES + 1] = '\0';
    (void)snprintf(text, sizeof text, "{\"peers\":{\"%s\":%s}}", id, PEER("h", "1"));
    expect_refused(text, "id of 1 to 128");
    (void)snprintf(text, sizeof text, "{\"peers\":{\"%s\":%s}}", id + 1, PEER("h", "1"));
    assert_int_equal(parse(&d, text, &err), RG_OK);
    rg_discovery_free(&d);
}

static void a_wrong_address_is_refused(void **state)
{
    (void)state;
    expect_peer_refused("", GOOD_PORT, CAPABLE, "\"address\" is missing");
    expect_peer_refused("\"address\":7", GOOD_PORT, CAPABLE, "\"address\" is a number");
    expect_peer_refused("\"address\":\"\"", GOOD_PORT, CAPABLE, "\"address\" is \"\"");
    expect_peer_refused("\"address\":\"10.0.2.1/24\"", GOOD_PORT, CAPABLE, "10.0.2.1/24");
    expect_peer_refused("\"address\":\"[::1]\"", GOOD_PORT, CAPABLE, "[::1]");
    expect_peer_refused("\"address\":\"a b\"", GOOD_PORT, CAPABLE, "a b");
    expect_peer_refused("\"address\":\"0.0.0.0\"", GOOD_PORT, CAPABLE, "0.0.0.0");
    expect_peer_refused("\"address\":\"::\"", GOOD_PORT, CAPABLE, "\"address\" is ::");
}

static void a_wrong_port_is_refused(void **state)
{
    static const char *const ports[] = {"0", "65536", "-1", "1.5", "1e9", "50051.01"};
    char member[64];

    (void)state;
    expect_peer_refused(GOOD_ADDRESS, "", CAPABLE, "\"port\" is missing");
    expect_peer_refused(GOOD_ADDRESS, "\"port\":\"50051\"", CAPABLE, "\"port\" is a string");
    for (size_t i = 0; i < sizeof ports / sizeof ports[0]; i++) {
        (void)snprintf(member, sizeof member, "\"port\":%s", ports[i]);
        expect_peer_refused(GOOD_ADDRESS, member, CAPABLE, "from 1 to 65535");
        expect_peer_refused(GOOD_ADDRESS, member, CAPABLE, ports[i]);
    }
}

static void wrong_capabilities_are_refused(void **state)
{
    static const struct {
        const char *member, *part;
    } cases[] = {
        {"", "\"device_capabilities\" is missing"},
        {"\"device_capabilities\":[]", "\"device_capabilities\" is an array"},
        {"\"device_capabilities\":{}", "\"memory\" is missing"},
        {"\"device_capabilities\":{\"memory\":0}", "\"memory\" is 0"},
        {"\"device_capabilities\":{\"memory\":-4}", "\"memory\" is -4"},
        {"\"device_capabilities\":{\"memory\":1e30}", "\"memory\" is 1e30"},
        {"\"device_capabilities\":{\"memory\":0.5}", "\"memory\" is 0.5"},
        {"\"device_capabilities\":{\"memory\":\"192\"}", "\"memory\" is a string"},
        {"\"device_capabilities\":{\"memory\":1,\"chip\":5}", "\"chip\" is a number"},
        {"\"device_capabilities\":{\"memory\":1,\"model\":null}", "\"model\" is null"},
        {"\"device_capabilities\":{\"memory\":1,\"chip\":\"a\\nb\"}", "\"chip\""},
        {"\"device_capabilities\":{\"memory\":1,\"flops\":3}", "\"flops\" is a number"},
        {"\"device_capabilities\":{\"memory\":1,\"flops\":{\"fp16\":\"9\"}}",
         "\"fp16\" is a string"},
        {"\"device_capabilities\":{\"memory\":1,\"flops\":{\"int8\":-1}}", "\"int8\" is -1"},
        {"\"device_capabilities\":{\"memory\":1,\"flops\":{\"fp32\":1e999}}", "\"fp32\" is 1e999"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_peer_refused(GOOD_ADDRESS, GOOD_PORT, cases[i].member, cases[i].part);
}

static void peers_that_exclude_each_other_are_refused(void **state)
{
    (void)state;
    expect_refused("{\"peers\":{\"a\":" PEER("10.0.0.1", "1") ",\"a\":" PEER("10.0.0.2", "1") "}}",
                   "\"a\" appears twice");
    expect_refused("{\"peers\":{\"a\":" PEER("10.0.0.1", "1") ",\"b\":" PEER("10.0.0.1", "1") "}}",
                   "peers \"a\" and \"b\" have the same address and port, 10.0.0.1:1");
    expect_refused("{\"peers\":{\"a\":{\"head\":1,\"address\":\"h\",\"port\":1," CAPABLE "}}}",
                   "\"head\" is a number");
    expect_refused("{\"peers\":{\"a\":{\"head\":true,\"address\":\"h\",\"port\":1," CAPABLE
                   "},\"b\":{\"head\":true,\"address\":\"h\",\"port\":2," CAPABLE "}}}",
                   "peers \"a\" and \"b\" both say \"head\": true");
}

/* n peers a0.. on ports from 1. */
static void write_peers(char *text, size_t size, uint32_t n)
{
    size_t at = (size_t)snprintf(text, size, "{\"peers\":{");

    for (uint32_t i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, size - at,
                               "%s\"a%u\":{\"address\":\"h\",\"port\":%u," CAPABLE "}",
                               i > 0 ? "," : "", i, i + 1);
    (void)snprintf(text + at, size - at, "}}");
}

static void a_ring_has_a_largest_size(void **state)
{
    static char text[16384];
    struct rg_discovery d;
    struct rg_err err;

    (void)state;
    write_peers(text, sizeof text, RG_LIMIT_PEERS);
    assert_int_equal(parse(&d, text, &err), RG_OK);
    assert_int_equal(d.n, RG_LIMIT_PEERS);
    rg_discovery_free(&d);
    write_peers(text, sizeof text, RG_LIMIT_PEERS + 1);
    expect_refused(text, "65 peers");
}

static void a_missing_file_is_wrong_usage(void **state)
{
    struct rg_discovery d;
    struct rg_err err;

    (void)state;
    assert_int_equal(rg_discovery_read(&d, "/nonexistent/ring.json", &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "/nonexistent/ring.json"));
    rg_discovery_free(&d);
}

static void memory_that_is_short_leaves_nothing(void **state)
{
    const char *text = "{\"peers\":{\"a\":" PEER("10.0.0.1", "1") ",\"b\":" PEER("h", "2") "}}";
    enum rg_code code = RG_E_NOMEM;
    struct rg_discovery d;

    (void)state;
    for (int64_t n = 1; code != RG_OK; n++) {
        const int64_t live = rg_mem_live();
        struct rg_err err = {.code = RG_OK};

        assert_true(n < 1000);
        rg_mem_fail_at(n);
        code = parse(&d, text, &err);
        rg_mem_fail_at(0);
        if (code == RG_OK)
            break;
        assert_int_equal(code, RG_E_NOMEM);
        assert_true(rg_mem_live() == live);
    }
    rg_discovery_free(&d);
}

/* ---- addresses ------------------------------------------------------------------------------- */

static void loopback_is_known(void **state)
{
    (void)state;
    assert_true(rg_address_is_loopback("127.0.0.1"));
    assert_true(rg_address_is_loopback("127.9.8.7"));
    assert_true(rg_address_is_loopback("::1"));
    assert_true(rg_address_is_loopback("localhost"));
    assert_false(rg_address_is_loopback("10.0.2.1"));
    assert_false(rg_address_is_loopback("0.0.0.0"));
    assert_false(rg_address_is_loopback("fe80::1"));
    assert_false(rg_address_is_loopback("no such host"));
}

static void an_address_of_this_machine_is_local(void **state)
{
    struct rg_err err;

    (void)state;
    assert_int_equal(rg_address_check_local("127.0.0.1", &err), RG_OK);
    assert_int_equal(rg_address_check_local("localhost", &err), RG_OK);
    /* 192.0.2.0/24 is for documentation, RFC 5737: no machine has it */
    assert_int_equal(rg_address_check_local("192.0.2.7", &err), RG_E_PEER);
    assert_non_null(strstr(err.message, "192.0.2.7: not an address of this machine"));
    assert_non_null(strstr(err.message, "127.0.0.1 on lo"));
    assert_int_equal(rg_address_check_local("no such host", &err), RG_E_PEER);
}

static void loopback_goes_over_the_loopback_interface(void **state)
{
    char name[32] = "";
    struct rg_err err;

    (void)state;
    assert_int_equal(rg_address_interface(name, sizeof name, "127.0.0.1", &err), RG_OK);
    assert_memory_equal(name, "lo", 2);
    assert_int_equal(rg_address_interface(name, sizeof name, "no such host", &err), RG_E_PEER);
}

static void the_own_peer_is_found_by_its_address(void **state)
{
    struct rg_discovery d;
    struct rg_err err;
    uint32_t self = 99;

    (void)state;
    assert_int_equal(
        parse(&d, "{\"peers\":{\"a\":" PEER("192.0.2.7", "1") ",\"b\":" PEER("127.0.0.1", "2") "}}",
              &err),
        RG_OK);
    assert_int_equal(rg_discovery_self(&d, &self, &err), RG_OK);
    assert_int_equal(self, 1);
    rg_discovery_free(&d);

    assert_int_equal(parse(&d, "{\"peers\":{\"a\":" PEER("192.0.2.7", "1") "}}", &err), RG_OK);
    assert_int_equal(rg_discovery_self(&d, &self, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "--node-id"));
    rg_discovery_free(&d);

    assert_int_equal(
        parse(&d, "{\"peers\":{\"a\":" PEER("127.0.0.1", "1") ",\"b\":" PEER("127.0.0.1", "2") "}}",
              &err),
        RG_OK);
    assert_int_equal(rg_discovery_self(&d, &self, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "\"a\" and \"b\""));
    rg_discovery_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_example_file_is_the_two_macs),
        TEST(the_head_comes_first_and_the_others_keep_their_order),
        TEST(keys_of_other_programs_are_allowed),
        TEST(what_is_no_ring_is_refused),
        TEST(a_wrong_id_is_refused),
        TEST(a_wrong_address_is_refused),
        TEST(a_wrong_port_is_refused),
        TEST(wrong_capabilities_are_refused),
        TEST(peers_that_exclude_each_other_are_refused),
        TEST(a_ring_has_a_largest_size),
        TEST(a_missing_file_is_wrong_usage),
        TEST(memory_that_is_short_leaves_nothing),
        TEST(loopback_is_known),
        TEST(an_address_of_this_machine_is_local),
        TEST(loopback_goes_over_the_loopback_interface),
        TEST(the_own_peer_is_found_by_its_address),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

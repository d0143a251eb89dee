/* service_files.c - fills templates: @NAME@ becomes a value, written as XML or as systemd reads it.
 */
#include "cli/service_files.h"

#include <string.h>

#include "base/utf8.h"
#include "cli/service_templates.h"

uint32_t rg_service_files(const struct rg_service_file **out, enum rg_service_init init)
{
    static const struct rg_service_file systemd[] = {
        {"/etc/systemd/system/renga.service", rg_service_template_systemd}};
    static const struct rg_service_file launchd[] = {
        {"/Library/LaunchDaemons/org.renga.daemon.plist", rg_service_template_launchd},
        {"/etc/newsyslog.d/renga.conf", rg_service_template_newsyslog}};

    *out = init == RG_INIT_SYSTEMD ? systemd : launchd;
    return init == RG_INIT_SYSTEMD ? 1 : 2;
}

static bool can_be_said(const char *s)
{
    if (!rg_utf8_valid(s, strlen(s)))
        return false;
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
    return true;
}

/* ---- the languages --------------------------------------------------------------------------- */

/* A replacement for a character, or NULL. */
typedef const char *escape_fn(char c);

static const char *escape_xml(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    default:
        return NULL;
    }
}

/* Inside double quotes of an ExecStart line: C escapes, then specifiers, then variables
 * (systemd.service(5), "Command lines"). */
static const char *escape_systemd(char c)
{
    switch (c) {
    case '\\':
        return "\\\\";
    case '"':
        return "\\\"";
    case '%':
        return "%%";
    case '$':
        return "$$";
    default:
        return NULL;
    }
}

/* The program itself is not searched for variables. */
static const char *escape_systemd_program(char c)
{
    return c == '$' ? NULL : escape_systemd(c);
}

static const char *escape_shell(char c)
{
    return c == '\'' ? "'\\''" : NULL;
}

static enum rg_code add_escaped(struct rg_buf *out, const char *s, escape_fn *escape,
                                struct rg_err *err)
{
    enum rg_code code = RG_OK;

    for (; *s && !code; s++) {
        const char *instead = escape(*s);

        code = instead ? rg_buf_add_str(out, instead, err) : rg_buf_add(out, s, 1, err);
    }
    return code;
}

static bool is_plain(const char *s)
{
    return *s && strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                           "/._-+=:,@") == strlen(s);
}

enum rg_code rg_service_add_shell(struct rg_buf *out, const char *argument, struct rg_err *err)
{
    enum rg_code code;

    if (is_plain(argument))
        return rg_buf_add_str(out, argument, err);
    code = rg_buf_add_str(out, "'", err);
    if (!code)
        code = add_escaped(out, argument, escape_shell, err);
    return code ? code : rg_buf_add_str(out, "'", err);
}

/* ---- the values ------------------------------------------------------------------------------ */

/* "/usr/bin/renga serve --default-model \"/a b\"" */
static enum rg_code add_command(struct rg_buf *out, const char *const *arguments,
                                struct rg_err *err)
{
    enum rg_code code = RG_OK;

    for (uint32_t i = 0; arguments[i] && !code; i++) {
        const bool plain = is_plain(arguments[i]);

        code = rg_buf_addf(out, err, "%s%s", i > 0 ? " " : "", plain ? "" : "\"");
        if (!code)
            code = add_escaped(out, arguments[i], i == 0 ? escape_systemd_program : escape_systemd,
                               err);
        if (!code && !plain)
            code = rg_buf_add_str(out, "\"", err);
    }
    return code;
}

/* A line of the plist's array per argument. */
static enum rg_code add_array(struct rg_buf *out, const char *const *arguments, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    for (uint32_t i = 0; arguments[i] && !code; i++) {
        code = rg_buf_add_str(out, "        <string>", err);
        if (!code)
            code = add_escaped(out, arguments[i], escape_xml, err);
        if (!code)
            code = rg_buf_add_str(out, "</string>\n", err);
    }
    return code;
}

/* The value of a name, n bytes long; *known false: the template's text stays. */
static enum rg_code add_value(struct rg_buf *out, const char *name, size_t n,
                              const struct rg_service_facts *facts, bool *known, struct rg_err *err)
{
    const struct {
        const char *name, *value;
    } words[] = {{"USER", facts->user}, {"GROUP", facts->group}, {"HOME", facts->home}};

    *known = true;
    if (n == 7 && memcmp(name, "COMMAND", n) == 0)
        return add_command(out, facts->arguments, err);
    if (n == 9 && memcmp(name, "ARGUMENTS", n) == 0)
        return add_array(out, facts->arguments, err);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strlen(words[i].name) == n && memcmp(words[i].name, name, n) == 0)
            return add_escaped(out, words[i].value, escape_xml, err);
    *known = false;
    return RG_OK;
}

static enum rg_code check_facts(const struct rg_service_facts *facts, struct rg_err *err)
{
    for (uint32_t i = 0; facts->arguments[i]; i++)
        if (!can_be_said(facts->arguments[i]))
            return rg_fail(err, RG_E_USAGE,
                           "service: argument %u of the daemon has a control character or is not "
                           "UTF-8: rename the file that it names",
                           i);
    if (!can_be_said(facts->user) || !can_be_said(facts->group) || !can_be_said(facts->home))
        return rg_fail(err, RG_E_USAGE, "service: the user's name or home has a control character");
    return RG_OK;
}

enum rg_code rg_service_fill(struct rg_buf *out, const struct rg_service_file *file,
                             const struct rg_service_facts *facts, struct rg_err *err)
{
    enum rg_code code = check_facts(facts, err);

    for (const char *at = file->template; *at && !code;) {
        const char *end = *at == '@' ? strchr(at + 1, '@') : NULL;
        bool known = false;

        if (end)
            code = add_value(out, at + 1, (size_t)(end - at - 1), facts, &known, err);
        if (known) {
            at = end + 1;
            continue;
        }
        if (!code)
            code = rg_buf_add(out, at, 1, err);
        at++;
    }
    return code;
}

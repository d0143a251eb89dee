/* certs.c - `renga certs --discovery-config-path F --out DIR`. */
#include "cli/certs.h"

#include <stdio.h>

#include "base/log.h"
#include "cluster/certs.h"
#include "cluster/discovery.h"

enum rg_code rg_certs(const char *discovery_path, const char *dir, struct rg_err *err)
{
    struct rg_discovery d;
    uint32_t made;

    if (!discovery_path)
        return rg_fail(err, RG_E_USAGE,
                       "certs: give --discovery-config-path: it names the nodes");
    if (!dir)
        return rg_fail(err, RG_E_USAGE, "certs: give --out DIR: where the certificates go");

    enum rg_code code = rg_discovery_read(&d, discovery_path, err);

    if (code)
        return code;
    code = rg_certs_make(&d, dir, &made, err);
    if (!code) {
        for (uint32_t i = 0; i < d.n; i++)
            printf("%s/%s\n", dir, d.peers[i].id);
        rg_log(RG_LOG_INFO, "certs",
               "copy each node its own directory, give it as --tls-dir, and keep ca.key here",
               "made=%u nodes=%u", made, d.n);
    }
    rg_discovery_free(&d);
    return code;
}

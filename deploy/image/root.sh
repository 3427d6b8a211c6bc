#!/bin/sh
# Make the root file system of the image in a new folder: Debian's Python with the libraries that it and our packages need, and
# the /opt/clusteragent of this stage. Scanners find in var/lib/dpkg/status.d, a file a package, what there is of Debian.
set -eu
root=$1
list='cd "$1/var/lib/dpkg" && mkdir status.d && for deb in ../../cache/apt/archives/*.deb; do
  dpkg-deb --field "$deb" > "status.d/$(dpkg-deb --field "$deb" Package)"; done'
mmdebstrap --quiet --mode=root --variant=extract \
  --include=python3-minimal,libpython3-stdlib,libstdc++6,libgcc-s1,zlib1g,tzdata,netbase,libcap-ng0 \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
  --extract-hook="$list" bookworm "$root"
# One program of a package whose others change users and mount: `all` starts its processes by it.
cp /usr/bin/setpriv "$root/usr/bin/"
dpkg-query --status util-linux > "$root/var/lib/dpkg/status.d/util-linux"
mkdir -p "$root/opt" "$root/usr/share/clusteragent"
cp -a /opt/clusteragent "$root/opt/"
bill=$root/usr/share/clusteragent/sbom.cdx.json
/tools/bin/cyclonedx-py environment --output-reproducible --output-file "$bill" /opt/clusteragent/bin/python
/tools/bin/python "$(dirname "$0")/sbom.py" "$bill" "$root"/var/lib/dpkg/status.d/*

cd "$root"
# What only their installation and their own tests need, and what a stranger could use.
rm -rf usr/bin/perl* usr/bin/dpkg* usr/bin/openssl usr/share/perl5 var/cache/* var/log/* etc/apt var/lib/apt bin/sh bin/dash bin/tar
find opt/clusteragent -type d -name tests -prune -exec rm -rf {} +
# Nothing is compiled later: the root may be read-only.
python3 -m compileall -q opt/clusteragent

# Any user may run it, if only of the group 0, as some clusters choose users by themselves.
echo 'root:x:0:0:root:/root:/sbin/nologin' > etc/passwd
echo 'clusteragent:x:10001:0:cluster agent:/var/lib/clusteragent:/sbin/nologin' >> etc/passwd
echo 'root:x:0:' > etc/group
install -d -m 1777 tmp
install -d -m 0770 -o 10001 -g 0 var/lib/clusteragent
install -d etc/clusteragent/conf.d
install -D -m 0644 /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/ca-certificates.crt

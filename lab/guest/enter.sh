# Run in a lab host through podman until its boot has ended: admits the lab's key, and prints the state of the boot, the failed units
# and the host's SSH key. Through podman the key is known to be the host's; read from the network it would have to be trusted.
# Standard input: the account to log in as, the lab's public key, and the account's password or an empty line.
umask 077
read -r account
read -r key
read -r password

write_keys() {  # account, directory, line
    install -d -o "$1" -g "$1" -m 0700 "$2/.ssh"
    echo "$3" > "$2/.ssh/authorized_keys"
    chown "$1:$1" "$2/.ssh/authorized_keys"
}

if [ "$account" = root ]; then
    write_keys root /root "$key"
else
    write_keys "$account" "/home/$account" "$key"
    # As cloud-init closes root's login.
    write_keys root /root "command=\"echo 'Please login as the user \\\"$account\\\" rather than the user \\\"root\\\".';exit 142\" $key"
    # As cloud-init names the host to itself, before anybody else does.
    grep -q '^127.0.1.1' /etc/hosts || { hosts=$(cat /etc/hosts); printf '127.0.1.1 %s\n%s\n' "$(hostname)" "$hosts" > /etc/hosts; }
    if [ -n "$password" ]; then
        echo "$account:$password" | chpasswd
        echo "$account ALL=(ALL) ALL" > /etc/sudoers.d/90-cloud-init-users
    fi
fi
state=$(systemctl is-system-running --wait 2>/dev/null)
echo "state $state"
[ "$state" != degraded ] || systemctl list-units --failed --plain --no-legend | sed 's/^/failed /; s/ loaded .*//'
cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub | sed 's/^/key /'

"""The command tree and nothing else: `./inv --list`. What a verb does is in the modules beside."""

from invoke import Collection

from remote.control import project
from remote.control.commands import dev, doctor, model, newcomer
from remote.control.commands.boxes import box, clock, cloud, money, setup, shell, status
from remote.control.commands.data import data
from remote.control.commands.observe import logs, top, why
from remote.control.commands.program import program
from remote.control.commands.runs import check, demo, deploy, job, preflight, run

ns = Collection()
for verb in (
    *(
        demo.demo,
        newcomer.init,
        newcomer.new,
        doctor.doctor,
        check.check,
        check.config,
        deploy.deploy,
        deploy.rollback,
        preflight.preflight,
    ),
    *(
        box.launch,
        box.start,
        box.stop,
        box.reboot,
        box.terminate,
        status.status,
        box.list_boxes,
        shell.ssh,
    ),
    *(money.cost, money.reap),
    *(top.top, why.why, why.bundle),
    *(run.train, job.ps, job.attach, logs.logs, job.cancel, job.pull, run.export, model.install),
    *(run.run, run.resume, run.runs, run.verify, run.receipt),
    *(() if project.IS_INSTALLED else (dev.test, dev.lint)),
):
    ns.add_task(verb)
for verb in (
    shell.ssh_config,
    shell.forget,
    clock.clocks,
    clock.extend,
    setup.setup,
    setup.bake,
    setup.move,
    setup.images,
):
    box.collection.add_task(verb)
for name, module in {"box": box, "cloud": cloud, "data": data, "model": model, "dev": dev}.items():
    if not (module is dev and project.IS_INSTALLED):  # its tests and locks lie in a checkout
        ns.add_collection(module.collection, name)
program.answer_plain_invoke(ns)
